"""One run: set-up, training loop, diagnostics, display."""
