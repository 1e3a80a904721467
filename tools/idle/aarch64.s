// The idle program for arm64 (hakoniwa/kernel/processes/idle.py says what it is for).

.globl _start
_start:
    mov x8, #73               // ppoll(0, 0, 0, 0, 0)
    mov x0, #0
    mov x1, #0
    mov x2, #0
    mov x3, #0
    mov x4, #0
    svc #0
    cmn x0, #4                // EINTR
    b.eq _start
    mov x0, #125
    mov x8, #94               // exit_group
    svc #0
