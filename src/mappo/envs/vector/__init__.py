"""PettingZoo environments side by side."""
