// Runs one case on the bench without Python: bench CASE_FILE
//
// The case file has a line "name value" for each setting; names that are ports of the bench's memory
// (read_latency … seed) are driven, the others are listed in `Settings`. The memory's contents come from
// image_0.hex in the working directory. Prints the figures as "name value" lines, then PASS or FAIL; the
// exit code is 0 or 1. What the case file does not expect is not compared.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>

#include "Vtop.h"
#include "verilated.h"

namespace {

enum Register : uint8_t { CONTROL = 0x00, STATUS = 0x04, BASE = 0x08, LENGTH = 0x0C, CYCLES_LO = 0x10,
                          CYCLES_HI = 0x14, IDENTITY = 0x18 };
constexpr int RESET_CYCLES = 4;
constexpr int QUIET_CYCLES = 64;  // watched after `done`: nothing may move at the port any more
constexpr int LITE_LIMIT = 1000;  // cycles that a register access may take

class Settings {
   public:
    explicit Settings(const std::string& path) {
        std::ifstream file(path);
        if (!file) throw std::runtime_error("can't read " + path);
        std::string line;
        while (std::getline(file, line)) {
            std::istringstream words(line);
            std::string name, value;
            if (!(words >> name) || name[0] == '#') continue;
            if (!(words >> value)) throw std::runtime_error(path + ": no value after " + name);
            values_[name] = value;
        }
    }
    bool has(const std::string& name) const { return values_.count(name) != 0; }
    const std::string& text(const std::string& name) const {
        const auto found = values_.find(name);
        if (found == values_.end()) throw std::runtime_error("the case file has no line for " + name);
        return found->second;
    }
    uint64_t number(const std::string& name) const {
        try {
            size_t end = 0;
            const uint64_t value = std::stoull(text(name), &end, 0);
            if (end == text(name).size()) return value;
        } catch (const std::logic_error&) {
        }
        throw std::runtime_error("the case file's " + name + " is no number: " + text(name));
    }

   private:
    std::map<std::string, std::string> values_;
};

class Bench {
   public:
    Bench(VerilatedContext& context, const Settings& settings) : top(&context) {
        top.read_latency = settings.number("read_latency");
        top.write_latency = settings.number("write_latency");
        top.beat_interval = settings.number("beat_interval");
        top.stall_rate = settings.number("stall_rate");
        top.stall_mask = settings.number("stall_mask");
        top.seed = settings.number("seed");
        top.rst = 1;
        for (int i = 0; i < RESET_CYCLES; i++) cycle();
        top.load_index = 0;
        top.load = 1;
        cycle();
        top.load = 0;
        top.rst = 0;
        cycle();
    }

    void cycle() {
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
    }

    void write(Register address, uint32_t data) {
        top.ctrl_awaddr = address;
        top.ctrl_wdata = data;
        top.ctrl_wstrb = 0xF;
        top.ctrl_awvalid = top.ctrl_wvalid = 1;
        top.ctrl_bready = 1;
        bool response = false;
        for (int i = 0; i < LITE_LIMIT; i++) {
            top.eval();  // ready may depend on valid
            const bool address_taken = top.ctrl_awvalid && top.ctrl_awready;
            const bool data_taken = top.ctrl_wvalid && top.ctrl_wready;
            response = top.ctrl_bvalid;
            cycle();
            if (address_taken) top.ctrl_awvalid = 0;
            if (data_taken) top.ctrl_wvalid = 0;
            if (response) break;
        }
        top.ctrl_bready = 0;
        if (!response) throw std::runtime_error("no answer to a register write");
    }

    uint32_t read(Register address) {
        top.ctrl_araddr = address;
        top.ctrl_arvalid = 1;
        top.ctrl_rready = 1;
        for (int i = 0; i < LITE_LIMIT; i++) {
            top.eval();
            const bool taken = top.ctrl_arvalid && top.ctrl_arready;
            const bool answered = top.ctrl_rvalid;
            const uint32_t data = top.ctrl_rdata;
            cycle();
            if (taken) top.ctrl_arvalid = 0;
            if (answered) {
                top.ctrl_rready = 0;
                return data;
            }
        }
        throw std::runtime_error("no answer to a register read");
    }

    uint64_t handshakes() const {
        return top.ar_count + top.r_count + top.aw_count + top.w_count + top.b_count;
    }

    Vtop top;
};

std::string next_word(std::ifstream& file) {
    std::string word;
    while (file >> word) {
        if (word.rfind("//", 0) == 0) {
            std::getline(file, word);
        } else if (word[0] != '@') {
            for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
            return word;
        }
    }
    return {};
}

// Index of the first word in which the files differ, -1 if they are equal.
int64_t first_difference(const std::string& path, const std::string& expected_path) {
    std::ifstream file(path), expected(expected_path);
    if (!file) throw std::runtime_error("can't read " + path);
    if (!expected) throw std::runtime_error("can't read " + expected_path);
    for (int64_t index = 0;; index++) {
        const std::string a = next_word(file), b = next_word(expected);
        if (a != b) return index;
        if (a.empty()) return -1;
    }
}

int run(VerilatedContext& context, const Settings& settings) {
    if (!std::ifstream("image_0.hex")) throw std::runtime_error("can't read image_0.hex");
    Bench bench(context, settings);
    Vtop& top = bench.top;
    bool pass = true;
    const auto fail = [&pass](const std::string& why) {
        std::cout << "FAIL: " << why << "\n";
        pass = false;
    };

    if (settings.has("identity")) {
        const uint32_t identity = bench.read(IDENTITY);
        if (identity != settings.number("identity")) fail("the core is of another machine");
    }
    bench.write(BASE, static_cast<uint32_t>(settings.number("base")));
    bench.write(LENGTH, static_cast<uint32_t>(settings.number("commands")));
    bench.write(CONTROL, 1);
    const uint64_t limit = settings.number("cycle_limit");
    uint64_t waited = 0;
    while (!top.done && waited < limit) {
        bench.cycle();
        waited++;
    }
    const bool timed_out = !top.done;
    const uint64_t moved = bench.handshakes();
    for (int i = 0; i < QUIET_CYCLES && !timed_out; i++) bench.cycle();
    const bool quiet = bench.handshakes() == moved;

    const uint32_t status = bench.read(STATUS);
    const uint64_t cycles =
        bench.read(CYCLES_LO) | static_cast<uint64_t>(bench.read(CYCLES_HI)) << 32;
    const uint64_t read_bytes = top.r_count * settings.number("bus_bytes");

    top.dump_index = 0;
    top.dump_first = static_cast<uint32_t>(settings.number("dump_first"));
    top.dump_last = static_cast<uint32_t>(settings.number("dump_last"));
    top.dump = 1;
    bench.cycle();

    std::cout << "cycles " << cycles << "\nport_cycles " << top.port_cycles << "\nread_bytes "
              << read_bytes << "\nwrite_bytes " << top.write_bytes << "\nstatus " << status
              << "\nprotocol_error " << int(top.protocol_error) << "\ntimed_out " << timed_out
              << "\nquiet " << quiet << "\n";

    if (timed_out) fail("not done after " + std::to_string(limit) + " cycles");
    if (status & 4) fail("the core rejects command " + std::to_string(status >> 8));
    if (top.protocol_error) fail("AXI4 rules broken, see above");
    if (!quiet) fail("the port moved after done");
    if (cycles != top.port_cycles)
        fail("the core counts " + std::to_string(cycles) + " cycles, its ports show " +
             std::to_string(top.port_cycles));
    const auto expect = [&](const std::string& name, uint64_t value) {
        if (settings.has(name) && value != settings.number(name))
            fail(name + " " + settings.text(name) + ", got " + std::to_string(value));
    };
    expect("expected_cycles", cycles);
    expect("expected_read_bytes", read_bytes);
    expect("expected_write_bytes", top.write_bytes);
    if (settings.has("expected_output")) {
        const int64_t at = first_difference("dump_0.hex", settings.text("expected_output"));
        if (at >= 0) fail("the output differs from word " + std::to_string(at) + " on");
    }
    std::cout << (pass ? "PASS" : "FAIL") << "\n";
    top.final();
    return pass ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " CASE_FILE\n";
        return 2;
    }
    try {
        const auto context = std::make_unique<VerilatedContext>();
        context->commandArgs(argc, argv);
        return run(*context, Settings(argv[1]));
    } catch (const std::exception& fault) {
        std::cerr << fault.what() << "\n";
        return 2;
    }
}
