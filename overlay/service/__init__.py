"""The VTEP as a service: its configuration, its process and how people reach it.

Lives here: what ``overlay run`` is made of.  What must not: any packet; those
are the switch's.  Nothing here is imported by ``import overlay``.
"""
