"""The ledger: the protocol, and the engines that keep it."""
