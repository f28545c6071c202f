// objc_msgSend and its variants: find the method, then jump to it with every argument register as
// it was. The _stret form has the address of its result in front of the receiver.
#if !defined(__x86_64__)
#error "the Metal simulator runs on x86-64 only"
#endif

#define METAL_SIM_SEND(name, receiver, selector)                                   \
  asm(".text\n.globl " name "\n.hidden " name "\n.type " name ", @function\n" name \
      ":\n"                                                                        \
      "  push %rbp\n  mov %rsp, %rbp\n  sub $192, %rsp\n"                          \
      "  mov %rdi, (%rsp)\n  mov %rsi, 8(%rsp)\n  mov %rdx, 16(%rsp)\n"            \
      "  mov %rcx, 24(%rsp)\n  mov %r8, 32(%rsp)\n  mov %r9, 40(%rsp)\n"           \
      "  movups %xmm0, 48(%rsp)\n  movups %xmm1, 64(%rsp)\n"                       \
      "  movups %xmm2, 80(%rsp)\n  movups %xmm3, 96(%rsp)\n"                       \
      "  movups %xmm4, 112(%rsp)\n  movups %xmm5, 128(%rsp)\n"                     \
      "  movups %xmm6, 144(%rsp)\n  movups %xmm7, 160(%rsp)\n"                     \
      "  mov " receiver ", %r10\n  mov " selector                                  \
      ", %r11\n"                                                                   \
      "  mov %r10, %rdi\n  mov %r11, %rsi\n  call metal_sim_lookup@PLT\n"          \
      "  mov %rax, %r11\n"                                                         \
      "  mov (%rsp), %rdi\n  mov 8(%rsp), %rsi\n  mov 16(%rsp), %rdx\n"            \
      "  mov 24(%rsp), %rcx\n  mov 32(%rsp), %r8\n  mov 40(%rsp), %r9\n"           \
      "  movups 48(%rsp), %xmm0\n  movups 64(%rsp), %xmm1\n"                       \
      "  movups 80(%rsp), %xmm2\n  movups 96(%rsp), %xmm3\n"                       \
      "  movups 112(%rsp), %xmm4\n  movups 128(%rsp), %xmm5\n"                     \
      "  movups 144(%rsp), %xmm6\n  movups 160(%rsp), %xmm7\n"                     \
      "  leave\n  jmp *%r11\n.size " name ", .-" name "\n")

METAL_SIM_SEND("objc_msgSend", "%rdi", "%rsi");
METAL_SIM_SEND("objc_msgSend_fpret", "%rdi", "%rsi");
METAL_SIM_SEND("objc_msgSend_stret", "%rsi", "%rdx");
