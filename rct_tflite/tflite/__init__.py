"""The `.tflite` file: reader, writer of exact tensors, our metadata, and TFLite-Micro as oracle. No TensorFlow."""
