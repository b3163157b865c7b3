"""What is said of the code out of the code itself: the reference of the docs' site, and the man page.

Not part of the product: `make docs` and `make man` use it, and the tests prove that nothing is left out.
"""
