"""What Regraft can be asked to do: the catalogue of strategies and the functions behind the verbs."""
