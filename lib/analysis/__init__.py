"""What predictions say: confusions, honest probabilities, and how sure a difference is."""
