/* libbpf, as far as kmesh uses it */
struct bpf_object;
struct bpf_program;
struct bpf_map;

struct bpf_object *bpf_object__open(const char *path);
int bpf_object__load(struct bpf_object *object);
void bpf_object__close(struct bpf_object *object);
struct bpf_map *bpf_object__find_map_by_name(const struct bpf_object *object, const char *name);
struct bpf_program *bpf_object__find_program_by_name(const struct bpf_object *object,
						     const char *name);
int bpf_map__set_max_entries(struct bpf_map *map, uint32_t entries);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);
int bpf_map__fd(const struct bpf_map *map);
void *bpf_map__initial_value(struct bpf_map *map, size_t *size);
int bpf_program__fd(const struct bpf_program *program);
int bpf_program__set_log_buf(struct bpf_program *program, char *buffer, size_t size);

int bpf_obj_pin(int fd, const char *path);
int bpf_obj_get(const char *path);
int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next);
int bpf_enable_stats(int type);
int bpf_prog_get_fd_by_id(uint32_t id);
int bpf_map_get_fd_by_id(uint32_t id);
int libbpf_num_possible_cpus(void);

/* kmesh's own: C where a structure of libbpf or many calls would have to cross the border */

struct km_map_info {
	uint32_t id, type, key_size, value_size, max_entries, flags;
	uint32_t btf, key_type, value_type; /* 0: the kernel keeps no description */
};

struct km_link_info {
	uint32_t program;
	uint64_t target;
};

int km_map_info(int fd, struct km_map_info *info);
int km_prog_run_time(int fd, uint64_t *ns, uint64_t *runs);
int km_prog_map_ids(int fd, uint32_t *ids, uint32_t room);
int km_update_batch(int fd, const void *keys, const void *values, uint32_t *count);
int km_lookup_batch(int fd, const void *in, void *out, void *keys, void *values, uint32_t *count);
int km_link(int program, int target, int attach_type);
int km_run_iterator(int program, int netns);
int km_run_map_iterator(int program, int map);
int km_socket_in(int netns, int domain, int type, int protocol);
int km_link_replace(int link, int program, int expected);
int km_btf(uint32_t id, void *room, uint32_t size);
int km_link_info(int link, struct km_link_info *info);
int km_prog_id(int program, uint32_t *id);
int km_helper_allowed(int attach_type, int helper);
int64_t km_netns_cookie(int netns);
int64_t km_netns_cookie_by_program(int netns, const char *path, const char *cgroup2);
void km_log_reset(void);
const char *km_log_text(void);
struct km_ring;

struct km_ring *km_ring_open(int fd);
int km_ring_drain(struct km_ring *ring, void *room, uint32_t size, uint32_t *used);
void km_ring_close(struct km_ring *ring);
