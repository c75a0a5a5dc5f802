"""Vocabulary of a simulated workspace: topics, sentence templates, names of people."""

from __future__ import annotations

from dataclasses import dataclass

TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "deploys": {
        "thing": (
            "release branch", "rollback", "canary", "deploy queue", "staging cluster", "build cache", "helm chart", "feature flag",
            "changelog", "release train", "green build", "merge queue", "artifact", "container image", "deploy script", "hotfix",
            "version tag", "blue environment", "smoke test", "pipeline step",
        ),
        "task": (
            "roll back the release", "promote the canary", "cut a release", "pin the image", "drain the old pods", "tag the build",
            "freeze the branch", "rerun the pipeline", "flip the flag", "ship the hotfix", "warm the build cache",
        ),
        "tool": ("the deploy bot", "the build farm", "the staging cluster", "the release checklist", "the runner pool", "Terraform"),
    },
    "billing": {
        "thing": (
            "invoice", "refund", "credit note", "VAT number", "tax rate", "renewal", "payment method", "dunning mail", "price list",
            "discount", "subscription", "ledger", "purchase order", "chargeback", "annual plan", "receipt", "proration", "card update",
            "billing address", "usage report",
        ),
        "task": (
            "issue a refund", "void the invoice", "retry the payment", "change the tax rate", "apply the discount", "close the month",
            "reconcile the ledger", "upgrade the plan", "export the receipts", "chase the renewal", "split the invoice",
        ),
        "tool": ("the payment provider", "the finance inbox", "the tax service", "the price book", "the accountant", "the billing portal"),
    },
    "onboarding": {
        "thing": (
            "welcome mail", "laptop order", "buddy list", "first week plan", "starter ticket", "badge", "handbook", "account request",
            "orientation", "setup guide", "new joiner", "training slot", "access form", "reading list", "kick-off call", "intro session",
            "mentor", "day one checklist", "team tour", "probation review",
        ),
        "task": (
            "order a laptop", "find a buddy", "request an account", "book the orientation", "update the handbook", "plan the first week",
            "welcome the new joiner", "hand out badges", "set up the mentor", "run the intro session", "collect the forms",
        ),
        "tool": ("the people team", "the handbook", "the help desk", "the welcome board", "the training calendar", "the front desk"),
    },
    "incidents": {
        "thing": (
            "pager alert", "outage", "postmortem", "status page", "error spike", "runbook", "timeline", "root cause", "mitigation",
            "escalation", "latency graph", "dead letter queue", "failover", "on-call shift", "alert rule", "severity", "war room",
            "memory leak", "health check", "action item",
        ),
        "task": (
            "page the on-call", "restart the workers", "fail over to the replica", "write the postmortem", "silence the alert",
            "raise the severity", "update the status page", "find the root cause", "shed some load", "follow the runbook", "close the incident",
        ),
        "tool": ("the on-call phone", "the alert manager", "the incident channel", "the dashboard wall", "the status page", "the replica"),
    },
    "design": {
        "thing": (
            "mockup", "colour palette", "icon set", "wireframe", "prototype", "type scale", "empty state", "dark mode", "button style",
            "spacing token", "illustration", "layout grid", "tooltip", "component library", "contrast check", "user journey", "modal",
            "landing page", "design review", "style guide",
        ),
        "task": (
            "review the mockup", "export the icons", "test the prototype", "pick a colour", "fix the contrast", "redraw the wireframe",
            "align the grid", "name the tokens", "simplify the modal", "sketch the journey", "refresh the landing page",
        ),
        "tool": ("the component library", "the design file", "the usability panel", "the brand kit", "the sketch wall", "the icon font"),
    },
    "hiring": {
        "thing": (
            "candidate", "interview loop", "job post", "offer letter", "scorecard", "referral", "phone screen", "take-home task",
            "debrief", "recruiter call", "salary band", "headcount", "shortlist", "start date", "reference check", "careers page",
            "pair interview", "rejection mail", "panel", "relocation package",
        ),
        "task": (
            "schedule the interview", "write the scorecard", "send the offer", "screen the candidate", "post the job", "ask for a referral",
            "run the debrief", "check the references", "fill the panel", "answer the recruiter", "open the headcount",
        ),
        "tool": ("the applicant tracker", "the recruiter", "the careers page", "the interview kit", "the hiring committee", "the job board"),
    },
    "data": {
        "thing": (
            "nightly job", "warehouse", "schema change", "backfill", "dashboard", "event table", "partition", "data contract", "lineage graph",
            "null column", "dedup step", "stream", "metric definition", "late row", "parquet file", "join key", "sampling bias",
            "cohort query", "freshness check", "feature store",
        ),
        "task": (
            "backfill the table", "rerun the nightly job", "migrate the schema", "partition the events", "deduplicate the rows",
            "trace the lineage", "define the metric", "compact the files", "profile the query", "validate the contract", "refresh the dashboard",
        ),
        "tool": ("the warehouse", "the scheduler", "the query engine", "the notebook server", "the catalog", "the stream processor"),
    },
    "mobile": {
        "thing": (
            "push notification", "crash report", "app store review", "beta build", "deep link", "splash screen", "offline mode", "swipe gesture",
            "login screen", "permission prompt", "tablet layout", "battery drain", "keyboard overlap", "device farm", "signing key",
            "crash loop", "widget", "release note", "slow scroll", "screen reader label",
        ),
        "task": (
            "symbolicate the crash", "submit the build", "test on a tablet", "sign the beta", "handle the deep link", "ask for permission",
            "cache the feed", "profile the scroll", "answer the store review", "rotate the signing key", "ship the beta",
        ),
        "tool": ("the device farm", "the app store", "the crash reporter", "the emulator", "the beta group", "the push gateway"),
    },
    "security": {
        "thing": (
            "audit log", "access review", "password reset", "phishing mail", "certificate", "leaked key", "firewall rule", "pen test",
            "vulnerability", "second factor", "session token", "vault", "permission scope", "dependency alert", "threat model", "encryption key",
            "single sign-on", "patch", "suspicious login", "compliance report",
        ),
        "task": (
            "rotate the keys", "review the access", "patch the library", "renew the certificate", "revoke the token", "report the phishing",
            "enable the second factor", "scan the images", "close the port", "triage the finding", "sign the policy",
        ),
        "tool": ("the vault", "the scanner", "the identity provider", "the audit log", "the bug bounty", "the firewall"),
    },
    "docs": {
        "thing": (
            "getting started page", "code sample", "broken link", "API reference", "glossary", "tutorial", "search index", "screenshot",
            "typo", "release guide", "table of contents", "translation", "diagram", "migration guide", "changelog entry", "style check",
            "redirect", "FAQ", "page template", "version switcher",
        ),
        "task": (
            "fix the broken link", "rewrite the tutorial", "update the screenshots", "review the wording", "index the pages",
            "document the endpoint", "translate the guide", "draw a diagram", "merge the glossary", "lint the prose", "archive the old pages",
        ),
        "tool": ("the docs site", "the prose linter", "the search index", "the wiki", "the translators", "the style guide"),
    },
    "lunch": {
        "thing": (
            "taco truck", "salad bar", "noodle soup", "curry", "coffee machine", "jalapeño dip", "sandwich order", "phở place", "pizza oven",
            "vegan menu", "crêpe stand", "sushi set", "bagel box", "dessert tray", "fruit basket", "lunch table", "espresso", "ramen",
            "falafel wrap", "soup of the day",
        ),
        "task": (
            "book a table", "order the pizza", "share a taxi to the market", "grab a coffee", "bring some cake", "try the new place",
            "heat up the leftovers", "collect the sandwiches", "pick a restaurant", "refill the beans", "split the bill",
        ),
        "tool": ("the noodle place", "the canteen", "the café downstairs", "the food court", "the bakery", "the corner deli"),
    },
    "sports": {
        "thing": (
            "football match", "half marathon", "climbing wall", "penalty shoot-out", "table tennis ladder", "bike ride", "yoga class", "cup final",
            "season ticket", "referee", "transfer rumour", "tennis court", "relay team", "step challenge", "world record", "goalkeeper",
            "training plan", "basketball hoop", "swim lane", "running club",
        ),
        "task": (
            "join the relay", "book the court", "watch the final", "train for the marathon", "pick a goalkeeper", "climb on Thursday",
            "play doubles", "ride to work", "stretch before the run", "count the steps", "swap the season ticket",
        ),
        "tool": ("the running club", "the gym", "the league table", "the climbing hall", "the company team", "the pool"),
    },
}  # fmt: skip

QUESTIONS = (
    "Has anybody had trouble with the {thing} after trying to {task}?",
    "Who knows how to {task}?",
    "Does the {thing} belong to {tool} now?",
    "What is the right way to {task} when the {thing} is in the way?",
    "Could somebody look at the {thing} before we {task}?",
    "Is it just me, or did the {thing} change since {day}?",
    "Where do I find the {thing} in {tool}?",
    "Any idea why the {thing} says no when I {task}?",
    "Do we still {task} on {day}, or is the {thing} enough?",
    "Can I {task} without asking {tool} first?",
    "Quick question: who looks after the {thing}?",
    "Is there a reason not to {task} before {day}?",
    "Which {thing} should I take if I want to {task}?",
    "How long does it usually take to {task}? The {thing} has been waiting since {day}.",
)
ANSWERS = (
    "Yes, try to {task} first.",
    "That's the {thing}, it happens whenever we {task}.",
    "Ask {tool}, they keep the {thing}.",
    "I would {task} and then check the {thing} again.",
    "Not sure about the {thing}, but {tool} had the same on {day}.",
    "It moved to {tool} on {day}, the {thing} is still the old one.",
    "No need to {task}, the {thing} does it for you.",
    "We had this on {day}: somebody forgot to {task}.",
    "Have a look at the {thing} in {tool}, it should be there.",
    "I can {task} in a minute, just waiting for the {thing}.",
    "The short answer is {tool}, the long answer is the {thing}.",
    "Looks like the {thing} to me. Did you {task}?",
    "Works for me since {day}, what does {tool} say?",
    "Let me check the {thing} & come back to you.",
    "You need the {thing} for that, then {task}.",
    "+1, the {thing} again. I'll {task}.",
)
REMARKS = (
    "Heads up: we {task} on {day}.",
    "The {thing} is back, thanks to everyone who helped to {task}.",
    "New {thing} in {tool}, tell me what you think.",
    "I am going to {task} now, shout if that hurts.",
    "Reminder: {tool} needs the {thing} by {day}.",
    "Somebody should {task} one of these days.",
    "The {thing} looks much better than on {day}.",
    "If you {task} today, mind the {thing}.",
    "Good news: {tool} can {task} by itself now.",
    "I wrote down what we know about the {thing} and {tool}.",
    "We decided to {task} before the next {thing}.",
    "Less than {number} days until the {thing}!",
)
THANKS = (
    "Thanks, that was it!",
    "Great, thank you :pray:",
    "Perfect, will {task} then.",
    "Ah, the {thing}. Makes sense.",
    "Done, looks good now.",
    "OK, let's see on {day}.",
    "Still the same with the {thing}, hmm.",
    "Nice, I learned something about {tool} today.",
    "And if the {thing} isn't there?",
    "Right. I'll tell {tool}.",
)
COMMON: dict[str, tuple[str, ...]] = {
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "the 1st", "the 15th"),
    "number": ("2", "3", "5", "10", "12", "30", "100"),
}
SECOND_THOUGHTS = (
    " (never mind, found it)",
    " Sorry, I meant the other one.",
    " Update: fixed.",
    " — typo",
    " *edit:* see below",
    " cc everyone",
)
EMOJI = (":tada:", ":eyes:", ":+1:", ":thinking_face:", ":rocket:", ":joy:", ":coffee:", "🎉", "— merci")
REACTIONS = ("+1", "eyes", "tada", "white_check_mark", "joy", "heart", "rocket", "raised_hands")
CODE = (
    "```make {topic}\n2 passed, 1 failed```",
    "```Traceback (most recent call last):\n  File \"{topic}.py\", line {number}\nKeyError: 'id'```",
    "`{topic} --retry {number}`",
    "```if a &lt; b &amp;&amp; b &gt; {number} {{ return }}```",
)
BOT_TEXTS = (
    "Build <https://ci.example.com/{topic}/{number}|#{number}> passed.",
    "{number} new tickets about {topic} since yesterday.",
    "Reminder: stand-up in {number} minutes.",
    "*{topic}*: p99 {number} ms, all good :large_green_circle:",
)
SUFFIXES = ("help", "team", "europe", "ops", "random", "announce", "café", "weekly", "東京", "lab")
FIRST_NAMES = (
    "Ana", "Bo", "Chidi", "Dora", "Emre", "Fatima", "Goran", "Hana", "Ines", "Jun", "Kofi", "Lea", "Mats", "Nadia", "Omar", "Priya",
    "Quinn", "Rosa", "Sami", "Tove", "Uma", "Viktor", "Wanda", "Xin", "Yara", "Zoë",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Berg", "Castro", "Dietz", "Eze", "Fujita", "Garcia", "Haas", "Ito", "Jansen", "Kaur", "Lund", "Mori", "Novak", "Okafor", "Peña",
    "Quist", "Rossi", "Silva", "Tanaka", "Ueda", "Varga", "Weiss", "Yilmaz", "Zeman",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with `%s` for each hole, and the words that may fill it."""

    text: str
    holes: tuple[tuple[str, ...], ...]


def sentence(template: str, words: dict[str, tuple[str, ...]]) -> Sentence:
    """Compile a template with `{named}` holes for one topic.

    >>> sentence("Who can {task}?", {"task": ("swim", "run")})
    Sentence(text='Who can %s?', holes=(('swim', 'run'),))
    """
    holes = []
    text = ""
    for part in template.replace("%", "%%").split("{"):
        name, closed, rest = part.partition("}")
        if closed:
            holes.append(words[name])
            text += "%s" + rest
        else:
            text += part
    return Sentence(text, tuple(holes))


def sentences(templates: tuple[str, ...]) -> tuple[tuple[Sentence, ...], ...]:
    """Compile the templates for each topic, in the order of `TOPICS`; `&` is escaped as Slack escapes it."""
    return tuple(tuple(sentence(template.replace("&", "&amp;"), words | COMMON) for template in templates) for words in TOPICS.values())
