"""Problems: what a student learns to draw, with its data and its evaluator."""
