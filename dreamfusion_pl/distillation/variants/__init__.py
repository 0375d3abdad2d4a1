"""Other ways than SDS to make a gradient of the prior's predictions, a paper each."""
