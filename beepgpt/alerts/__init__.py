"""Who is alerted to what: decisions, state, messages, delivery, rehearsal. No Slack client."""
