"""What is forgotten is found and removed in every kind of file and topic that this program writes."""
