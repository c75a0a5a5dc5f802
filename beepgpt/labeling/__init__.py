"""What makes an example worth learning from: few-shots, questions, redaction, labelers."""
