//! Every system call that is not the loop's: paths, sockets, peers, limits.
