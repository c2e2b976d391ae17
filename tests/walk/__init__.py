"""The walk: the real daemon is killed, or refused, at every system call that changes something durable or visible.

    calls     which system calls count, their numbers here, and what their arguments mean
    seccomp   a filter that stops a process at those calls and lets another one decide (user notification, by ctypes)
    sight     looking into the stopped process: paths, descriptors, memory
    places    what a call is about: ledger, part, output, upload …; and what must never be seen there
    carry_out the stopped call, done in the tracer: for a kill right after it took effect
    points    `MODE|CALL|PLACE|NTH`: where to strike, and how
    tracer    starts a command under the filter, counts, strikes once, reports (`python -m tests.walk.tracer`)
    life      one life of the daemon with one strike, the restart, and everything that must hold at the end
    choice    all points of two quiet lives, and a seed's sample of them

Counted are the calls of all threads of the daemon. Its probe children are stopped by the same filter and let go on:
they write nothing but answers on their standard input. Points are numbered within their kind, for threads run side by
side and a number over all calls would mean another call each time. Nothing needs a compiler or strace; where the
kernel or a container forbids it, `tracer.why_not` says why, once.
"""
