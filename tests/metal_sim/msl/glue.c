/* Linked into every compiled kernel: what clang's instrumentation and the standard library call,
   forwarded to the simulator, which sets the table once it has loaded the kernel. */
struct metal_sim_calls {
  void (*access)(void* address, unsigned bytes, int is_write, int is_atomic);
  void (*wait)(int simdgroup_only, int flags, const void* site);
  const void* (*exchange)(const void* value, unsigned bytes, const void* site, unsigned* lane);
  char* (*array)(unsigned ordinal);
  void (*partial_simdgroup)(void);
};
struct metal_sim_calls metal_sim_table;

#define ACCESS(BYTES)                                                                     \
  void __tsan_read##BYTES(void* p) { metal_sim_table.access(p, BYTES, 0, 0); }            \
  void __tsan_write##BYTES(void* p) { metal_sim_table.access(p, BYTES, 1, 0); }           \
  void __tsan_unaligned_read##BYTES(void* p) { metal_sim_table.access(p, BYTES, 0, 0); }  \
  void __tsan_unaligned_write##BYTES(void* p) { metal_sim_table.access(p, BYTES, 1, 0); } \
  void __tsan_volatile_read##BYTES(void* p) { metal_sim_table.access(p, BYTES, 0, 0); }   \
  void __tsan_volatile_write##BYTES(void* p) { metal_sim_table.access(p, BYTES, 1, 0); }  \
  void __tsan_read_write##BYTES(void* p) {                                                \
    metal_sim_table.access(p, BYTES, 0, 0);                                               \
    metal_sim_table.access(p, BYTES, 1, 0);                                               \
  }                                                                                       \
  void __tsan_unaligned_read_write##BYTES(void* p) {                                      \
    metal_sim_table.access(p, BYTES, 0, 0);                                               \
    metal_sim_table.access(p, BYTES, 1, 0);                                               \
  }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_init(void) {}
void __tsan_func_entry(void* p) { (void)p; }
void __tsan_func_exit(void) {}

void metal_sim_barrier(int flags) { metal_sim_table.wait(0, flags, __builtin_return_address(0)); }
void metal_sim_simd_barrier(int flags) {
  metal_sim_table.wait(1, flags, __builtin_return_address(0));
}
const void* metal_sim_exchange(const void* value, unsigned bytes, unsigned* lane) {
  return metal_sim_table.exchange(value, bytes, __builtin_return_address(0), lane);
}
char* metal_sim_array(unsigned ordinal) { return metal_sim_table.array(ordinal); }
void metal_sim_atomic(const volatile void* address, unsigned bytes, int is_write) {
  metal_sim_table.access((void*)address, bytes, is_write, 1);
}
void metal_sim_need_full_simdgroup(const unsigned long* mask) {
  if (*mask != 0xfffffffful) metal_sim_table.partial_simdgroup();
}
