"""What a policy is worth, in numbers and pictures."""
