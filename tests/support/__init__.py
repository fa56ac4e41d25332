"""Helpers of the tests: servers and checks that are no part of the product."""
