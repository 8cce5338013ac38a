"""Training for others: what a server needs around `train.trainer`. Enter through `runs.Runs`."""
