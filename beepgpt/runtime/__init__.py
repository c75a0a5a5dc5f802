"""How a flow runs: workers, snapshots, stopping, supervision, metrics, logs. Knows no Slack and no model."""
