//! What lies on disk. Every write is whole or not there at all; every record has a version.
