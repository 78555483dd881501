"""What runs on engines and around them: inference, decoding, rollouts, the queue, evaluation."""
