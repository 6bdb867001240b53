"""The ten calls of a connect as somebody would write them with other libraries: no record, no guard, own retries.

Each module runs on a Python that has the packages of the dependency group `peers` and nothing of ours.
`OCC_PEER_SERVER` names the server.
"""
