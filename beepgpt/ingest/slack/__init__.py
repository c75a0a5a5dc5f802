"""Live events from Slack: written before they are acknowledged, with gaps backfilled from the channels' histories."""
