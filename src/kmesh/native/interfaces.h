/* kmesh's own: programs on the interfaces of a network namespace */
int km_interfaces(int netns, uint32_t *indexes, uint32_t room);
int km_link_interface(int netns, int program, uint32_t index, int attach_type);
int km_filter_interface(int netns, int program, uint32_t index);
int km_unfilter_interface(int netns, uint32_t index);
