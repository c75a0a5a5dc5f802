"""Who is alerted to what: decisions, state, messages, delivery and rehearsal; no Slack client, which comes as an argument."""
