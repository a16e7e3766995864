/* SPDX-License-Identifier: MIT
 * Hand-written frames for steps_main.c: rules of rare forms, and code without any. */
    .text

/* int steps_asm(int (*f)(int), int x): through all of them */
    .globl steps_asm
    .type steps_asm, @function
steps_asm:
    .cfi_startproc
    endbr64
    push %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    push %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    sub $8, %rsp
    .cfi_adjust_cfa_offset 8
    mov %rdi, %rbx
    mov %esi, %r12d
    call by_other_register
    mov %rbx, %rdi
    mov %r12d, %esi
    call by_expression
    mov %rbx, %rdi
    mov %r12d, %esi
    call linked_without_rules
    mov %rbx, %rdi
    mov %r12d, %esi
    call bare_without_rules
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    pop %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    ret
    .cfi_endproc
    .size steps_asm, . - steps_asm

/* The frame is found from r13, and an early way out has rules of its own. */
    .type by_other_register, @function
by_other_register:
    .cfi_startproc
    push %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    mov %rsp, %r13
    .cfi_def_cfa_register %r13
    and $-256, %rsp
    sub $512, %rsp
    .cfi_remember_state
    test %rdi, %rdi
    jne 1f
    mov %r13, %rsp
    .cfi_def_cfa %rsp, 16
    pop %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    ret
1:  .cfi_restore_state
    mov %rdi, %rax
    mov %esi, %edi
    call *%rax
    mov %r13, %rsp
    .cfi_def_cfa %rsp, 16
    pop %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    ret
    .cfi_endproc
    .size by_other_register, . - by_other_register

/* The caller's stack pointer has been saved on a frame of another alignment: its address is read from
 * there. */
    .type by_expression, @function
by_expression:
    .cfi_startproc
    lea 8(%rsp), %rax
    and $-64, %rsp
    .cfi_def_cfa %rax, 0
    sub $64, %rsp
    mov %rax, 8(%rsp)
    /* DW_CFA_def_cfa_expression: DW_OP_breg7 (rsp) + 8, DW_OP_deref */
    .cfi_escape 0x0f, 0x03, 0x77, 0x08, 0x06
    mov %rdi, %rax
    mov %esi, %edi
    call *%rax
    mov 8(%rsp), %rcx
    .cfi_def_cfa %rcx, 0
    lea -8(%rcx), %rsp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size by_expression, . - by_expression

/* No rules, but a frame that rbp links. */
    .type linked_without_rules, @function
linked_without_rules:
    push %rbp
    mov %rsp, %rbp
    push %rbx
    push %rbx
    mov %rdi, %rax
    mov %esi, %edi
    call *%rax
    pop %rbx
    pop %rbx
    pop %rbp
    ret
    .size linked_without_rules, . - linked_without_rules

/* No rules and nothing to go by: no chain can go on from here, and none may be made up. */
    .type bare_without_rules, @function
bare_without_rules:
    sub $24, %rsp
    mov %rdi, %rax
    mov %esi, %edi
    call *%rax
    add $24, %rsp
    ret
    .size bare_without_rules, . - bare_without_rules

    .section .note.GNU-stack, "", @progbits
