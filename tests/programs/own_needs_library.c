// A library with a thread-local variable, whose place the dynamic loader makes at the first use in each thread.
__thread char own[10000] = {7};
char *own_place(void) { return own; }
