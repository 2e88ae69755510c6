"""The lab: hosts in network namespaces, tunnel end points of several kinds, tenants' traffic.

    with Topology() as topology:
        one, two = (KernelVxlan(topology, host, Segment()) for host in topology.hosts)
        one.start(), two.start()
        assert traffic.ping(one, two).lossless

``overlay lab`` shows it, the tests and the benchmarks are made of it.  It needs
CAP_NET_ADMIN and CAP_SYS_ADMIN, which every user has behind ``unshare -Urn``.
"""
