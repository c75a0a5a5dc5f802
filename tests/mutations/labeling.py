"""Of labeling: what is asked, what leaves the machine, and whose answer a label is."""

from tests.mutations.mutation import mutation

ASKING_PY = "beepgpt/labeling/asking.py"
REDACTION_PY = "beepgpt/labeling/redaction.py"
SUMMARIES_PY = "beepgpt/labeling/summaries.py"
PROVIDER_PY = "beepgpt/labeling/labelers/provider.py"
LABELED_PY = "beepgpt/labeling/labelers/labeled.py"
VALUES_PY = "connectors/openai/values.py"
FLOW_PY = "dataflows/label_examples.py"
FLOW = "tests/dataflows/test_label_flow.py"
LABELERS = "tests/labeling/test_labelers.py"
REDACTION = "tests/labeling/test_redaction.py"

ROWS = (
    mutation(
        "a few-shot is moved before the journal says so",
        "labels: what a crash leaves",
        "beepgpt/labeling/few_shots.py",
        "tests/labeling/test_few_shots.py::test_a_move_is_in_the_journal_before_a_line_is_moved",
        (
            "        self._enter(Entry(identity, _other(was), was))  # first, since it decides if a crash leaves the line in both files\n        self._move(identity, was)",
            "        self._move(identity, was)\n        self._enter(Entry(identity, _other(was), was))",
        ),
    ),
    mutation(
        "a provider is tried by requests that show the same conversation",
        "labels: how right they are",
        "beepgpt/labeling/trial.py",
        "tests/labeling/test_asked_and_taken_back.py::test_a_provider_is_tried_by_requests_that_show_nothing_of_the_same_conversation",
        (
            "for each, group in zip(few_shots, groups_of(examples), strict=True):\n                halves[group % 2].append(each)",
            "for place, each in enumerate(few_shots):\n                halves[place % 2].append(each)",
        ),
    ),
    mutation(
        "a retracted silence is passed on",
        "retractions",
        "beepgpt/dataflows/label_examples.py",
        "tests/dataflows/test_label_kafka.py::test_a_topic_is_labeled_to_another_one",
        (
            '        if question.id in self._labeling.retracted:\n            self._account.count("retracted")\n        elif question.is_silent:\n            self._account.count("silent")\n            self._labeled.append(LabeledRecord(question.id, read.line))\n',
            '        if question.is_silent:\n            self._account.count("silent")\n            self._labeled.append(LabeledRecord(question.id, read.line))\n        elif question.id in self._labeling.retracted:\n            self._account.count("retracted")\n',
        ),
    ),
    mutation(
        "an answer that was given to other instructions is taken from the store",
        "labels: whose answer",
        ASKING_PY,
        "tests/commands/label/test_label.py::test_other_instructions_are_another_question",
        (
            "body = body_of(Request(self.model, self.instructions, self.shots, _MARK))",
            'body = body_of(Request(self.model, "", self.shots, _MARK))',
        ),
    ),
    mutation(
        "an answer that was given with other few-shots is taken from the store",
        "labels: whose answer",
        ASKING_PY,
        "tests/commands/label/test_label.py::test_a_request_has_the_same_id_however_it_is_found",
        (
            "body = body_of(Request(self.model, self.instructions, self.shots, _MARK))",
            "body = body_of(Request(self.model, self.instructions, (), _MARK))",
        ),
    ),
    mutation(
        "a label is counted for the example asked before",
        "labels: whose answer",
        FLOW_PY,
        "tests/dataflows/test_label_flow.py::test_each_example_comes_out_once",
        (
            "            self._label(waiting.read, waiting.question, answer.result())\n",
            "            self._label(self.__dict__.setdefault('_last', waiting).read, waiting.question, answer.result())\n            self._last = waiting\n",
        ),
    ),
    mutation(
        "few-shots are sent as they were written",
        "law 9",
        ASKING_PY,
        "tests/labeling/test_asked_and_taken_back.py",
        (
            "tuple((redact(text).text, CHOICES[signal]) for text, signal in shots)",
            "tuple((text, CHOICES[signal]) for text, signal in shots)",
        ),
    ),
    mutation(
        "the instructions are sent as they were written",
        "law 9",
        ASKING_PY,
        "tests/labeling/test_asked_and_taken_back.py",
        ("return Asking(model, redact(instructions).text,", "return Asking(model, instructions,"),
    ),
    mutation(
        "what is summarized is sent as it was written",
        "law 9",
        SUMMARIES_PY,
        "tests/labeling/test_label_summaries.py::test_a_long_few_shot_is_summarised_once_and_its_summary_is_shown",
        ("safe = redact(prompt)", "safe = Redacted(prompt, {})"),
        ("import redact", "import Redacted, redact"),
    ),
    mutation(
        "phone numbers are redacted only behind their name",
        "law 9",
        REDACTION_PY,
        "tests/labeling/test_redaction.py::test_a_phone_number_goes",
        ('        text = _without(text, "phone", _PHONE, _phone)\n', ""),
    ),
    mutation(
        "a text that hides something is redacted once",
        "law 9",
        REDACTION_PY,
        "tests/labeling/test_asked_and_taken_back.py",
        ("_PASSES = 8\n", "_PASSES = 1\n"),
        ('        done = "[secret]"\n', "        pass\n"),
    ),
    mutation(
        "what may not be sent is asked about all the same",
        "law 9",
        FLOW_PY,
        "tests/dataflows/test_label_flow.py::test_a_person_knows_better_and_what_is_excluded_is_not_asked",
        (
            "        elif self._labeling.is_excluded(question):\n",
            "        elif self._labeling.is_excluded(question) and not question.prompt:\n",
        ),
    ),
    mutation(
        "a retraction is not passed on",
        "law 6",
        FLOW_PY,
        "tests/dataflows/test_label_flow.py::test_nothing_comes_after_its_retraction",
        ("        self._labeled.append(LabeledRecord(name, None, read.retracted_ts))\n", ""),
    ),
    mutation(
        "an example that is asked about comes out after its retraction",
        "labels: retractions",
        FLOW_PY,
        "tests/labeling/test_asked_and_taken_back.py",
        ("        self._calls = {number: call for number, call in self._calls.items() if call[0].question.id != name}\n", ""),
    ),
    mutation(
        "what is asked about when the flow is stopped is forgotten",
        "law 6",
        FLOW_PY,
        "tests/dataflows/test_label_flow.py::test_a_snapshot_holds_what_is_asked_and_what_waits",
        ("pending = [waiting for waiting, _ in self._calls.values()] + list(self._waiting)", "pending = list(self._waiting)"),
    ),
    mutation(
        "an answer is passed on before it is kept, and paid for twice",
        "labels: asked once",
        PROVIDER_PY,
        "tests/commands/label/test_label.py::test_a_second_run_asks_nothing",
        (
            "            self._store.put(asked.id, answer, self._spent())\n            self._good += 1\n            return [(asked, verdict_in(answer))",
            "            self._good += 1\n            return [(asked, verdict_in(answer))",
        ),
    ),
    mutation(
        "the limit of cost holds for each start",
        "labels: cost",
        ASKING_PY,
        "tests/commands/label/test_label_costs.py::test_what_is_spent_stops_the_run_and_more_money_goes_on",
        ("cost = self.cost(self.before + spent)", "cost = self.cost(spent)"),
    ),
    mutation(
        "the local labeler is judged by examples that it has seen",
        "law 8",
        "beepgpt/labeling/labelers/local.py",
        "tests/labeling/test_labelers.py::test_examples_that_share_a_message_do_not_judge_each_other",
        ("groups=self._groups, cv=split, method", "groups=np.arange(len(self._examples)), cv=split, method"),
    ),
    mutation(
        "a labeler at chance is applied",
        "law 8",
        "beepgpt/commands/label_agreement.py",
        "tests/commands/test_label_agreement.py::test_a_local_labeler_at_chance_writes_nothing",
        ("    if accuracy.is_at_chance and not force:\n", "    if accuracy.high < accuracy.constant and not force:\n"),
    ),
    mutation(
        "the agreement's interval takes few-shots of one conversation for independent ones",
        "law 8",
        "beepgpt/labeling/agreement.py",
        "tests/labeling/test_labelers.py::test_few_shots_of_few_conversations_say_as_much_as_these",
        ("interval(right, len(set(groups_of(few_shots))))", "interval(right, len(few_shots))"),
    ),
    mutation(
        "what is retracted behind the span that is labeled is sent",
        "law 9",
        "beepgpt/commands/example_source.py",
        "tests/commands/label/test_label.py::test_what_is_retracted_behind_the_end_of_a_span_is_not_sent",
        (
            "    is_gone = {record.key: record.value is None for _, record in log.records(address.topic) if record.key is not None}\n    since, until = address.since or 0, address.until\n",
            "    since, until = address.since or 0, address.until\n    is_gone = {record.key: record.value is None for _, record in log.records(address.topic) if record.key is not None and record.timestamp <= (until or record.timestamp)}\n",
        ),
    ),
    mutation(
        "a run that lost its money behind the last example has ended",
        "law 6",
        "beepgpt/runtime/workers.py",
        "tests/commands/label/test_label_faults.py::test_money_that_ends_behind_the_last_example_stops_the_run",
        ("ended = self._has_ended and not self.stop()", "ended = self._has_ended"),
    ),
    mutation(
        "counts of kinds that a later start lacks are lost",
        "law 6",
        "connectors/openai/responses.py",
        "connectors/openai/responses.py",
        ("for name in sorted({*one, *other})}", "for name in sorted(other)}"),
    ),
    mutation(
        "cards of Mastercard's newer numbers are taken for ids",
        "law 9",
        "beepgpt/labeling/redaction.py",
        "tests/labeling/test_redaction.py::test_a_card_of_any_network_goes",
        ('not in "23456":', 'not in "3456":'),
    ),
    mutation(
        "a few-shot's opinion is by a labeler that a model told its label",
        "law 8",
        "beepgpt/labeling/labelers/local.py",
        "tests/labeling/test_labelers.py::test_an_opinion_of_a_few_shot_is_by_a_labeler_that_has_seen_none_of_its_labels",
        (
            "([each for each in those if each.prompt not in hidden] for those in (few_shots, labeled))",
            "([each for each in few_shots if each.prompt not in hidden], labeled)",
        ),
    ),
)
