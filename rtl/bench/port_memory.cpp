// The bench's memory asks a process outside when each burst is answered.
//
// Two named pipes in the working directory, made by whoever answers: port_requests has a line for each
// burst, "R case cycle address beats" at its address handshake or "W case cycle address beats" at its last
// data; port_answers a line with the first cycle of each beat, or of the response. Both sides wait for each
// other, so the simulation stands still meanwhile.
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

std::FILE* requests = nullptr;
std::FILE* answers = nullptr;
std::vector<unsigned long long> beats;

[[noreturn]] void give_up(const char* why) {
    std::fprintf(stderr, "port_memory: %s\n", why);
    std::exit(2);
}

void ask(char kind, unsigned which, unsigned long long cycle, unsigned address, unsigned count) {
    if (!requests) {
        requests = std::fopen("port_requests", "w");
        answers = std::fopen("port_answers", "r");
        if (!requests || !answers) give_up("no pipes in the working directory");
    }
    std::fprintf(requests, "%c %u %llu %u %u\n", kind, which, cycle, address, count);
    std::fflush(requests);
    beats.assign(kind == 'R' ? count : 1, 0);
    for (auto& cycle_of : beats)
        if (std::fscanf(answers, "%llu", &cycle_of) != 1) give_up("no answer");
}

}  // namespace

extern "C" void port_memory_read(unsigned which, unsigned long long cycle, unsigned address, unsigned count) {
    ask('R', which, cycle, address, count);
}

extern "C" unsigned long long port_memory_beat(unsigned index) { return beats.at(index); }

extern "C" unsigned long long port_memory_write(
    unsigned which, unsigned long long cycle, unsigned address, unsigned count) {
    ask('W', which, cycle, address, count);
    return beats[0];
}
