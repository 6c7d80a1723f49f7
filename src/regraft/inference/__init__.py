"""What a trained model is and does away from training: the bundle and the predictor."""
