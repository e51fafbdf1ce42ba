"""From a trained network to a `.tflite` and to folders that firmware takes in."""
