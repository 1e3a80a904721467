// The trampoline for AArch64 (hakoniwa/kernel/processes/trampoline.py says what it does). At the start the stack holds argc and
// argv; x19 is the table, x20 what is taken off a negative errno to tell where it comes from.

.globl _start
_start:
    mov x8,#436               // close_range
    mov x0,#3
    mov w1,#-1
    mov x2,#4
    svc #0
    mov x8,#25                // fcntl(3, F_GETFD)
    mov x0,#3
    mov x1,#1
    svc #0
    mov x9,#126
    tbnz x0,#63,leave
    adr x19,table
    mov x20,#0x1000
    ldr x1,[x19,#8]
    cbz x1,1f
    mov x8,#56                // openat
    mov x0,#6
    mov x2,#1
    svc #0
    tbnz x0,#63,fail
    mov x8,#64                // write
    ldr x1,[x19,#16]
    ldr x2,[x19,#24]
    svc #0
    tbnz x0,#63,fail
1:  add x20,x20,x20
    ldr x21,[x19]
    add x22,x19,#32
2:  cbz x21,3f
    mov x8,#277               // seccomp
    mov x0,#1
    mov x1,#0
    mov x2,x22
    svc #0
    tbnz x0,#63,fail
    add x22,x22,#16
    sub x21,x21,#1
    b 2b
3:  mov x20,#0
    mov x8,#281               // execveat
    mov x0,#4
    ldr x5,[sp]
    ldr x1,[sp,#16]
    add x2,sp,#24
    add x3,sp,x5,lsl #3
    add x3,x3,#16
    mov x4,#0x1000
    svc #0
fail:
    sub x0,x0,x20
    str x0,[sp]
    mov x8,#64                // write
    mov x0,#3
    mov x1,sp
    mov x2,#8
    svc #0
    mov x9,#127
leave:
    mov x8,#94                // exit_group
    mov x0,x9
    svc #0
.balign 8
table:
