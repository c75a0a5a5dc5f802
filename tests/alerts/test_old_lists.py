"""Without Slack, an export's lists say who may see what: who left since then is still listed."""

import json
from pathlib import Path

from beepgpt.connectors.slack.members import ListedMembers


def test_a_deactivated_account_sees_nothing_though_it_is_listed(tmp_path: Path):
    """As a member of a public channel, and of a private one."""
    users = [{"id": "U1", "name": "ana"}, {"id": "U2", "name": "bo", "deleted": True}]
    (tmp_path / "users.json").write_text(json.dumps(users))
    for name, identity in (("channels", "C1"), ("groups", "G1")):
        listed = {"id": identity, "name": identity.lower(), "members": ["U1", "U2"], "is_private": name == "groups"}
        (tmp_path / f"{name}.json").write_text(json.dumps([listed]))
    lists = ListedMembers(tmp_path)

    assert [lists.may_see("U1", each, lists.person("U1")) for each in ("C1", "G1")] == [True, True]
    assert [lists.may_see("U2", each, lists.person("U2")) for each in ("C1", "G1")] == [False, False]
