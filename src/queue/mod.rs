//! Jobs: the interface, claims, leases, the sweeper.
