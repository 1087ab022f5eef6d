"""`mappo reproduce`: repeat a published training, and compare the returns with the published returns."""
