import ArgumentParser
import EventLoop
import Files
import Foundation
import JSON
import Node
import Telemetry
import Topologies

@main
struct Atoll: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "atoll", abstract: "Train a language model together, over the internet you already have.",
        version: atollVersion,
        groupedSubcommands: [
            CommandGroup(
                name: "First", subcommands: [DemoCommand.self, PlanCommand.self, Replay.self, TopologyCommand.self]),
            CommandGroup(
                name: "Lending",
                subcommands: [
                    PeerCommand.self, StatusCommand.self, TopCommand.self, WhyCommand.self, LimitsCommand.self,
                    PauseCommand.self, ResumeCommand.self, DrainCommand.self, LeaveCommand.self, ReceiptsCommand.self,
                    DoctorCommand.self,
                ]),
            CommandGroup(
                name: "Pool", subcommands: [NodeCommand.self, InviteCommand.self, IdentityCommand.self]),
            CommandGroup(
                name: "Training",
                subcommands: [
                    LaunchCommand.self, WatchCommand.self, CollectCommand.self, VerifyCommand.self,
                    RecoveryCommand.self,
                ]),
            CommandGroup(
                name: "Model",
                subcommands: [GenerateCommand.self, EvalCommand.self, ServeCommand.self, ConvertCommand.self]),
            CommandGroup(
                name: "Text",
                subcommands: [TokenizeCommand.self, TokenizerCommand.self, DataCommand.self]),
            CommandGroup(
                name: "Study",
                subcommands: [
                    BenchCommand.self, CodecCommand.self, SweepCommand.self, CiteCommand.self, EventsReference.self,
                ]),
        ])

    /// Where standard input, output or errors are closed, the next file that is opened would be taken for them, and what is said be written into it.
    private static func openStandardDescriptors() {
        for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) == -1 {
            guard open("/dev/null", O_RDWR) == descriptor else { Foundation.exit(1) }
        }
    }

    /// Exit codes: 0 done, 1 failed, 2 usage or bad input, 130 interrupted.
    static func main() {
        openStandardDescriptors()
        // A loop alone takes some.
        guard DescriptorLimit.raise() >= 16 else {
            complain("this process may have \(DescriptorLimit.current) files open, and needs 16: `ulimit -n`", .error)
            Foundation.exit(1)
        }
        // A peer that closes while we write is an ordinary event, not the end of this process.
        signal(SIGPIPE, SIG_IGN)
        // A parent may have started us from a thread that blocks signals, and the mask is inherited: ^C must work anyway.
        var stopping = sigset_t()
        sigemptyset(&stopping)
        for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&stopping, number) }
        sigprocmask(SIG_UNBLOCK, &stopping, nil)
        // A code of a diagnosis has a page as a command has.
        let arguments = CommandLine.arguments.dropFirst()
        if arguments.first == "help", arguments.count >= 2 { refuseUnknown(Array(arguments.dropFirst())) }
        if arguments.first == "help", arguments.count == 2, let word = arguments.last?.uppercased() {
            if let code = DiagnosisCode(rawValue: word) {
                print(code.text)
                Output.leave(0)
            }
            if word.wholeMatch(of: #/[A-Z]{2,4}-[0-9]{1,3}/#) != nil {
                let meant = nearest(to: word, among: DiagnosisCode.allCases.map(\.rawValue))
                complain(
                    "there is no \(word)" + (meant.map { "; did you mean \($0)?" } ?? ""), .error)
                Output.leave(2)
            }
        }
        do {
            var command = try parseAsRoot(withOwnValues(Array(arguments)))
            try command.run()
            Output.leave(0)
        } catch let error as NodeError {
            if asksForJSON(arguments) { print(JSONFailure(error.description, exitCode: error.exitCode).text) }
            complain(error.description, .error)
            Output.leave(error.exitCode)
        } catch let code as ExitCode {
            Output.leave(code.rawValue)
        } catch let error as CocoaError {
            // The system's words, and where; not the class of an error.
            let place = error.filePath.map { $0 + ": " } ?? ""
            let text = place + foundationProblem(error)
            if asksForJSON(arguments) { print(JSONFailure(text, exitCode: 1).text) }
            complain(text, .error)
            Output.leave(1)
        } catch {
            let code = exitCode(for: error)
            let text = fullMessage(for: error)
            if code == .success {
                print(text)
            } else {
                if asksForJSON(arguments) { print(JSONFailure(text, exitCode: 2).text) }
                complain(text, .error)
            }
            Output.leave(code == .success ? 0 : 2)
        }
    }
}

/// `atoll help WORD` of a word that is no command shows what there is, and says that it is none: it is a mistake all the same.
private func refuseUnknown(_ words: [String]) {
    guard let word = words.first, !word.hasPrefix("-"), word.wholeMatch(of: #/[A-Za-z]{2,4}-[0-9]{1,3}/#) == nil else {
        return
    }
    let known =
        Atoll.configuration.groupedSubcommands.flatMap(\.subcommands).map {
            $0.configuration.commandName ?? "\($0)".lowercased()
        } + ["help"]
    guard !known.contains(word) else { return }
    let meant = word.count > 3 ? nearest(to: word, among: known) : nil
    complain(
        "there is no command \(word)\(meant.map { "; did you mean \($0)?" } ?? ".") `atoll --help` lists all", .error)
    Foundation.exit(2)
}

/// `--steps -1` as `--steps=-1`: a number below zero behind an option is its value, and it is for the command to say that it is too small.
/// `--web` without a number as `--web=0`.
private func withOwnValues(_ arguments: [String]) -> [String] {
    var out: [String] = []
    // A limit's value has no option in front of it.
    if arguments.prefix(2) == ["limits", "set"], !arguments.contains("--"),
        let place = arguments.dropFirst(3).firstIndex(where: { $0.first == "-" && Double($0) != nil }),
        !arguments[place - 1].hasPrefix("--")
    {
        var rest = arguments
        let value = rest.remove(at: place)
        return rest + ["--", value]
    }
    for (index, argument) in arguments.enumerated() {
        let isPlain = !arguments[..<index].contains("--")
        if isPlain, argument == "--web", index + 1 == arguments.count || Int(arguments[index + 1]) == nil {
            out.append("--web=0")
            continue
        }
        let isNegative = argument.first == "-" && Double(argument) != nil
        if isNegative, let option = out.last, option.hasPrefix("--"), option.count > 2, !option.contains("="),
            isPlain
        {
            out[out.count - 1] = option + "=" + argument
        } else {
            out.append(argument)
        }
    }
    return out
}

/// Whether whoever called reads JSON: what fails is JSON for them as well.
private func asksForJSON(_ arguments: ArraySlice<String>) -> Bool {
    arguments.prefix { $0 != "--" }.contains("--json")
}

/// What failed, for programs: docs/STATUS.md has its fields.
struct JSONFailure {
    private let sentence: String
    private let hint: String?
    private let code: String?
    private let exitCode: Int32

    /// - Parameter text: for people: a sentence, perhaps what to try, and the code of a page in brackets.
    init(_ text: String, exitCode: Int32) {
        var rest = text.trimmingCharacters(in: .whitespacesAndNewlines)
        var code: String?
        if let mark = rest.firstMatch(of: #/ ?\[([A-Z]{2,4}-[0-9]{1,3}): atoll help [A-Z0-9-]+\]/#) {
            code = String(mark.1)
            rest.removeSubrange(mark.range)
        }
        if rest.hasPrefix("Error: ") { rest.removeFirst(7) }
        let end = rest.firstRange(of: #/[.;] (?=[A-Z`])|\n/#)
        (self.code, self.exitCode) = (code, exitCode)
        sentence = end.map { String(rest[..<$0.lowerBound]) } ?? rest
        hint = end.map { rest[$0.upperBound...].split(whereSeparator: \.isNewline).joined(separator: " ") }
    }
    var text: String {
        var error = JSONObject()
        error["code"] = code.map { .string($0) } ?? .null
        error["exit_code"] = JSONValue(Int(exitCode))
        error["sentence"] = .string(sentence)
        error["hint"] = hint.map { .string($0) } ?? .null
        var out = JSONObject()
        out["error"] = .object(error)
        return JSONValue.object(out).written()
    }
}

func complain(_ text: String) { complain(text, .info) }

/// Beside what is printed, which may be JSON.
func complain(_ text: String, _ level: LogLevel) {
    // It may hold what others wrote: a name in a file, a word of an invite.
    var text = terminalSafe(text.hasPrefix("Error: ") || text.hasPrefix("Usage") ? text : "atoll: " + text)
    let prefix = Journal.prefix(level, on: STDERR_FILENO)
    // The journal takes each line for itself.
    if prefix.isEmpty { text = TerminalText.of(STDERR_FILENO).fitted(text) }
    if !prefix.isEmpty { text = text.split(separator: "\n").map { prefix + $0 }.joined(separator: "\n") }
    Output.note(text + "\n")
}
