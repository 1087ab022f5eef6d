"""`mappo report`: a single HTML page about a run, about several runs, or about a sweep, that opens offline."""
