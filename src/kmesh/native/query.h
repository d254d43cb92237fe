/* What others have put into the kernel, and what it can do */
struct km_prog_facts {
	uint32_t id, type;
	uint64_t load_time;
	char name[16];
};

int km_query(int target, int attach_type, bool effective, uint32_t *ids, uint32_t room);
int km_prog_facts(uint32_t id, struct km_prog_facts *facts);
int km_next_prog(uint32_t id, uint32_t *next);
int km_probe_program(int type);
int km_probe_map(int type);
int km_probe_helper(int program_type, int helper);
int km_probe_batch(void);
