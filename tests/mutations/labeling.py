"""Of labeling: what is asked, what leaves the machine, and whose answer a label is."""

from tests.mutations.mutation import mutation

ASKING_PY = "beepgpt/labeling/asking.py"
REDACTION_PY = "beepgpt/labeling/redaction.py"
SUMMARIES_PY = "beepgpt/labeling/summaries.py"
PROVIDER_PY = "beepgpt/labeling/labelers/provider.py"
LABELED_PY = "beepgpt/labeling/labelers/labeled.py"
VALUES_PY = "connectors/openai/values.py"
FLOW_PY = "dataflows/label_examples.py"
LABEL = "tests/commands/test_label.py"
FLOW = "tests/dataflows/test_label_flow.py"
LABELERS = "tests/labeling/test_labelers.py"
REDACTION = "tests/labeling/test_redaction.py"

ROWS = (
    mutation(
        "an answer that was given to other instructions is taken from the store",
        "labels: whose answer",
        ASKING_PY,
        f"{LABEL}::test_other_instructions_are_another_question",
        (
            "body = body_of(Request(self.model, self.instructions, self.shots, _MARK))",
            'body = body_of(Request(self.model, "", self.shots, _MARK))',
        ),
    ),
    mutation(
        "an answer that was given with other few-shots is taken from the store",
        "labels: whose answer",
        ASKING_PY,
        LABEL,
        (
            "body = body_of(Request(self.model, self.instructions, self.shots, _MARK))",
            "body = body_of(Request(self.model, self.instructions, (), _MARK))",
        ),
    ),
    mutation(
        "a label is counted for the example asked before",
        "labels: whose answer",
        FLOW_PY,
        FLOW,
        (
            "            self._label(waiting.read, waiting.question, answer.result())\n",
            "            self._label(self.__dict__.setdefault('_last', waiting).read, waiting.question, answer.result())\n            self._last = waiting\n",
        ),
    ),
    mutation(
        "few-shots are sent as they were written",
        "law 9",
        ASKING_PY,
        LABEL,
        (
            "tuple((redact(text).text, CHOICES[signal]) for text, signal in shots)",
            "tuple((text, CHOICES[signal]) for text, signal in shots)",
        ),
    ),
    mutation(
        "the instructions are sent as they were written",
        "law 9",
        ASKING_PY,
        LABEL,
        ("return Asking(model, redact(instructions).text,", "return Asking(model, instructions,"),
    ),
    mutation(
        "what is summarized is sent as it was written",
        "law 9",
        SUMMARIES_PY,
        ("tests/labeling/test_label_summaries.py", "tests/labeling/test_summaries.py"),
        ("safe = redact(prompt)", "safe = Redacted(prompt, {})"),
        ("import redact", "import Redacted, redact"),
    ),
    mutation(
        "phone numbers are redacted only behind their name",
        "law 9",
        REDACTION_PY,
        REDACTION,
        ('        text = _without(text, "phone", _PHONE, _phone)\n', ""),
    ),
    mutation(
        "a text that hides something is redacted once",
        "law 9",
        REDACTION_PY,
        REDACTION,
        ("_PASSES = 8\n", "_PASSES = 2\n"),
        ('        done = "[secret]"\n', "        pass\n"),
    ),
    mutation(
        "what may not be sent is asked about all the same",
        "law 9",
        FLOW_PY,
        FLOW,
        (
            "        elif self._labeling.is_excluded(question):\n",
            "        elif self._labeling.is_excluded(question) and not question.prompt:\n",
        ),
    ),
    mutation(
        "a retraction is not passed on",
        "law 6",
        FLOW_PY,
        FLOW,
        ("        self._labeled.append(LabeledRecord(name, None, read.retracted_ts))\n", ""),
    ),
    mutation(
        "an example that is asked about comes out after its retraction",
        "labels: retractions",
        FLOW_PY,
        FLOW,
        ("        self._calls = {number: call for number, call in self._calls.items() if call[0].question.id != name}\n", ""),
    ),
    mutation(
        "what is asked about when the flow is stopped is forgotten",
        "law 6",
        FLOW_PY,
        FLOW,
        ("pending = [waiting for waiting, _ in self._calls.values()] + list(self._waiting)", "pending = list(self._waiting)"),
    ),
    mutation(
        "an answer is passed on before it is kept, and paid for twice",
        "labels: asked once",
        PROVIDER_PY,
        LABEL,
        (
            "            self._store.put(asked.id, answer, self._spent())\n            self._good += 1\n            return [(asked, verdict_in(answer))",
            "            self._good += 1\n            return [(asked, verdict_in(answer))",
        ),
    ),
    mutation(
        "the limit of cost holds for each start",
        "labels: cost",
        ASKING_PY,
        LABEL,
        ("cost = self.cost(self.before + spent)", "cost = self.cost(spent)"),
    ),
    mutation(
        "the local labeler is judged by examples that it has seen",
        "law 8",
        "beepgpt/labeling/labelers/local.py",
        LABELERS,
        ("groups=self._groups, cv=split, method", "groups=np.arange(len(self._examples)), cv=split, method"),
    ),
)
