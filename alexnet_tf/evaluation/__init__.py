"""What a trained network answers, measured and drawn."""
