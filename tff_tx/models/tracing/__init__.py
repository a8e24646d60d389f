"""Models as pure functions: what reaches into TensorFlow and Keras to trace, cut and vectorize them."""
