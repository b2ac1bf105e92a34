"""What is scored: ground truth, results, recorded streams, each checked as it is read."""
