"""What groups of neurons are for: graphs of weights, lesions, and whether a group is important and coherent."""
