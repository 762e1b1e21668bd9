"""Many runs: aligned, told apart, grouped; what differs between them and how surely."""
