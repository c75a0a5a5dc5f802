"""A Slack of one's own: a workspace, Socket Mode, and the Web API that histories and alerts use. Its network is this machine."""
