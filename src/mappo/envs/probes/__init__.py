"""Probes: tasks so small that the best return is known in closed form. Each proves one feature of the learner."""
