/// What `atoll doctor` finds, and what a failing command carries: a stable code with a page of its own. A number is never given to something else.
public enum DiagnosisCode: String, CaseIterable, Codable, Sendable {
    case keyMode = "ID-001"
    case folderInUse = "ID-002"
    case clock = "ID-003"
    case sameKeyTwice = "ID-004"
    case keyUnreadable = "ID-005"
    case folderFormat = "ID-006"
    case inviteMissing = "INV-001"
    case inviteMalformed = "INV-002"
    case inviteWithoutBootstrap = "INV-003"
    case inviteWithoutLaunchers = "INV-004"
    case inviteReadable = "INV-005"
    case inviteOver = "INV-006"
    case portTaken = "NET-001"
    case nobodyAnswers = "NET-002"
    case unreachable = "NET-003"
    case relayed = "NET-004"
    case meteredNow = "NET-005"
    case noAddress = "NET-006"
    case fewDescriptors = "NET-008"
    case symmetricRouter = "NET-009"
    case portNotForwarded = "NET-010"
    case secondRouter = "NET-011"
    case forwardedInVain = "NET-012"
    case brokenIPv6 = "NET-013"
    case smallPackets = "NET-014"
    case notJoined = "POOL-001"
    case noConnections = "POOL-002"
    case daemonSilent = "POOL-003"
    case removedFromPool = "POOL-004"
    case membershipOver = "POOL-005"
    case memoryBeyond = "MEM-001"
    case memoryLittle = "MEM-002"
    case memoryGroup = "MEM-003"
    case instructionSets = "CPU-001"
    case threadsBeyond = "CPU-002"
    case heat = "CPU-003"
    case noIdlePriority = "CPU-004"
    case folderNotWritable = "DSK-001"
    case diskFull = "DSK-002"
    case diskSlow = "DSK-003"
    case usageDamaged = "DSK-004"
    case logDamaged = "DSK-005"
    case leaderSilent = "JOB-001"
    case workLost = "JOB-004"
    case batteryUnseen = "LIM-001"
    case biting = "LIM-002"
    case peerFile = "LIM-003"
    case userUnseen = "LIM-004"
    case loadUnseen = "LIM-005"
    case heatUnseen = "LIM-006"
    case meteredUnseen = "LIM-007"
    case neverOpen = "LIM-008"
    case quotaNearly = "LIM-009"

    /// What is looked at, in a few words.
    public var title: String { page.title }
    /// What it means, and what to do: the text of `atoll help CODE`.
    public var text: String {
        "\(rawValue)  \(page.title)\n\n\(page.meaning)\n\nWhat to do: \(page.remedy)"
    }

    private var page: (title: String, meaning: String, remedy: String) {
        switch self {
        case .keyMode, .folderInUse, .clock, .sameKeyTwice, .keyUnreadable, .folderFormat: identityPage
        case .inviteMissing, .inviteMalformed, .inviteWithoutBootstrap, .inviteWithoutLaunchers, .inviteReadable,
            .inviteOver:
            invitePage
        case .portTaken, .nobodyAnswers, .unreachable, .relayed, .meteredNow, .noAddress, .fewDescriptors: networkPage
        case .symmetricRouter, .portNotForwarded, .secondRouter, .forwardedInVain, .brokenIPv6, .smallPackets: linePage
        case .notJoined, .noConnections, .daemonSilent, .removedFromPool, .membershipOver, .leaderSilent, .workLost:
            poolPage
        case .memoryBeyond, .memoryLittle, .memoryGroup, .instructionSets, .threadsBeyond, .heat, .noIdlePriority:
            machinePage
        case .folderNotWritable, .diskFull, .diskSlow, .usageDamaged, .logDamaged: diskPage
        default: limitPage
        }
    }
}

extension DiagnosisCode {
    private typealias Page = (title: String, meaning: String, remedy: String)

    private var identityPage: Page {
        switch self {
        case .keyMode:
            (
                "others can read this peer's key",
                "The file `key` in the peer's folder is its identity: whoever can read it can be this peer. Its mode has to be 0600: with another one no daemon starts.",
                "`chmod 600 ~/.atoll/peer/key`. If somebody may have copied it, remove it: the peer gets a new identity at its next start."
            )
        case .folderInUse:
            (
                "another process has this peer's folder",
                "One daemon runs for each identity. The folder's lock is held, and no daemon answers at its control socket.",
                "Wait until that process has ended, end it, or give this peer a folder of its own with --data."
            )
        case .clock:
            (
                "the clock of this machine is wrong",
                "Records in the overlay and signed statements expire by the time of day. A clock that is far off makes this machine's expire at once, and those of others never.",
                "Set the clock, and have it kept: `timedatectl set-ntp true`."
            )
        case .sameKeyTwice:
            (
                "two folders have one key",
                "A folder was copied with its key. Of two daemons with one identity only one is heard, and which one changes.",
                "Remove `key` from the copy: it gets an identity of its own at its next start. Do not remove it from the folder that is in a job."
            )
        case .keyUnreadable:
            (
                "this peer's key cannot be read",
                "The file `key` has to hold 64 hexadecimal digits. It is damaged, or belongs to another user.",
                "Restore it from a copy. If there is none, remove it: the peer gets a new identity, and what it did before stays with the old one."
            )
        default:
            (
                "this peer's folder is of another version",
                "The file `format` says which version made the folder. Others are refused rather than misread.",
                "Use the version that made it, or another folder with --data."
            )
        }
    }
    private var invitePage: Page {
        switch self {
        case .inviteMissing:
            (
                "there is no invite there",
                "A peer joins a pool with the file that `atoll node` has made. It is not where --invite says, or cannot be read.",
                "Check the path, or ask whoever runs the pool for the file."
            )
        case .inviteMalformed:
            (
                "the invite cannot be used",
                "The file is not an invite: a key is unknown, or a value is not what it should be. The line says which.",
                "Ask for the file again. It is text, and may have been changed on its way."
            )
        case .inviteWithoutBootstrap:
            (
                "the invite names nobody to ask",
                "An invite lists addresses at which the pool can be met. This one has none, so that nobody can be found.",
                "Ask for one that names a node (`bootstrap:`), or add the address of one that you know."
            )
        case .inviteWithoutLaunchers:
            (
                "no launcher is accepted",
                "A peer works only for launchers that its owner accepts: those of the invite, of peer.yaml, or of --accept. There is none, so it will never have work.",
                "`atoll peer --accept KEY`, or `accept:` in peer.yaml. A launcher's key is what `atoll launch` prints first."
            )
        case .inviteOver:
            (
                "the invite lets nobody in any more",
                "An invite of a pool that keeps members is in force for a time, and for so many uses; whoever made it can take it back. This one has expired, was used up by others, or was revoked. Who joined by it stays a member.",
                "Ask whoever keeps the pool for a new one: `atoll invite create`, of which `atoll invite list` shows uses and end."
            )
        default:
            (
                "others can read the invite",
                "Whoever has the invite can join the pool. Its file can be read by other users of this machine.",
                "`chmod 600 FILE`. It holds the pool's key: if somebody may have copied it, make another pool."
            )
        }
    }
    private var networkPage: Page {
        switch self {
        case .portTaken:
            (
                "the port is taken",
                "Another program listens at the address and port that --listen names, on TCP or on UDP.",
                "Choose another port, or port 0, which takes a free one."
            )
        case .nobodyAnswers:
            (
                "nobody of the pool answers",
                "The nodes that the invite names do not answer at TCP. They may be off, have another address, or a firewall lets nothing out.",
                "Ask whoever runs the pool whether its node is up. Try another network. Outgoing TCP and UDP to the node's port have to be allowed."
            )
        case .unreachable:
            (
                "others cannot reach this machine",
                "A router or a firewall lets nobody in. The peer works all the same: it dials others, and those who cannot be dialled either are reached through a relay, more slowly.",
                "Let TCP and UDP on its port in: a rule of the firewall, or a port of the router forwarded to this machine. --listen 0.0.0.0:PORT fixes the port."
            )
        case .relayed:
            (
                "connections go through a relay",
                "Two peers that cannot be dialled meet through a third, which carries their bytes as far as its owner allows. That is slower than a direct line.",
                "As for NET-003: one of the two has to be reachable."
            )
        case .meteredNow:
            (
                "this connection is paid by volume",
                "NetworkManager takes the connection for a metered one, and the peer sends nothing over it.",
                "Use another network, or `atoll limits set metered work`, perhaps with monthly_gib."
            )
        case .noAddress:
            (
                "this machine has no address but its own",
                "No interface beside loopback is up: only peers of this machine can be met.", "Connect it to a network."
            )
        default:
            (
                "few files may be open",
                "Connections need descriptors. The limit of this process is low, so that it turns others away early; below 128 a daemon does not start.",
                "Raise it: `ulimit -n 4096`, or LimitNOFILE in the unit."
            )
        }
    }
    private var linePage: Page {
        switch self {
        case .symmetricRouter:
            (
                "the router gives each destination another port",
                "Others see this machine at a port of its own each (a symmetric NAT). Where neither of two peers can be dialled they cannot be introduced to each other then, and a relay carries all that they exchange.",
                "Let the router forward a port: NET-010 says how. Some routers have a setting for it (“full cone”, “open NAT”, “gaming”). A provider's router cannot be changed: ask for a public address, or use IPv6."
            )
        case .portNotForwarded:
            (
                "the router forwards no port",
                "The router was asked to let the port in, by PCP and NAT-PMP, and refused or did not answer. Others cannot dial this machine, and are reached by dialling them, by introductions, or through relays.",
                "Switch on port mapping in the router's settings (NAT-PMP, PCP; often beside UPnP, which is not enough by itself), or forward TCP and UDP of the port to this machine there, and give that port with --listen 0.0.0.0:PORT."
            )
        case .secondRouter:
            (
                "there is a second router in front of the first",
                "The router of this machine forwards the port, and its own address is not the one that others see: another router, of the provider or in the house, stands before it and lets nobody in.",
                "A router of your own in front: put one of the two into bridge mode, or forward the port there, too. The provider's (an address that begins with 100.64 to 100.127): ask for a public address, or use IPv6."
            )
        case .forwardedInVain:
            (
                "the forwarded port lets nobody in",
                "The router says that it forwards a port to this machine, and others who dialled that port did not come in: a firewall of this machine or of the router, or a router that only says so.",
                "Let TCP and UDP of the port in at this machine's own firewall (`atoll status` names the port). Restart the router. If nothing helps: --no-port-mapping, and forward a port by hand."
            )
        case .brokenIPv6:
            (
                "IPv6 leads nowhere",
                "An interface has a public IPv6 address, and there is no way out for it: dials to IPv6 addresses of others fail at once.",
                "Restart the router or the interface. `ip -6 route` should have a default route."
            )
        default:
            (
                "only small packets pass",
                "The connection to a node of the pool carries segments of less than 1240 bytes, so packets of less than 1280: a tunnel or a provider makes the line narrow. More of each byte sent is head.",
                "Look for a tunnel or VPN on the way, and for its MTU. Nothing has to be done: TCP adapts."
            )
        }
    }
    private var poolPage: Page {
        switch self {
        case .notJoined:
            (
                "the daemon has not joined its pool", "It runs, and nobody of its pool answers yet. It keeps trying.",
                "See NET-002. If the invite is old, the pool's nodes may have other addresses by now: ask for a new one."
            )
        case .noConnections:
            (
                "the daemon is connected to nobody",
                "It works for a job, and talks to nobody of it: its line may be gone, or theirs. A peer without a job needs nobody, and is fine.",
                "It keeps its part of the job, and goes on when others are there again. `atoll why connections` says what was tried."
            )
        case .daemonSilent:
            (
                "a daemon does not answer",
                "Its control socket is there, and nothing comes back: it is busy, stopped, or has just been killed.",
                "Look at its process. A socket that nobody listens at is replaced at the next start."
            )
        case .removedFromPool:
            (
                "this machine was removed from its pool",
                "Whoever keeps the pool has revoked this machine's membership. No member lets it in, whatever certificate or invite it shows with this key.",
                "Ask them why. They let it in again with a new invite, and a new identity: another folder with --data."
            )
        case .membershipOver:
            (
                "this machine's membership of its pool is not in force",
                "Its certificate has expired (it is renewed every week by a node of whoever keeps the pool, and for half a year after its end), or the file `pool` in its folder cannot be read.",
                "Start the peer while that node is up: it renews by itself. If the file is damaged, or half a year is over, move it away and join with a new invite."
            )
        case .leaderSilent:
            (
                "the coordinator of the job is not heard",
                "The peer's job goes on only with a coordinator. It keeps everything for an hour, and goes on when one is heard.",
                "Nothing, if the launcher's machine comes back. `atoll leave` or `atoll pause` let go of the job."
            )
        default:
            (
                "much of this peer's work did not count",
                "More than a fifth of its micro-batches were late, lost or superseded (done anew). The machine or its line is slower than it was when it was measured, or others of its pipeline come and go.",
                "`atoll receipts` says which and why. Fewer other programs, a better line, or `atoll limits` (cpu_percent, threads) may help."
            )
        }
    }
    private var machinePage: Page {
        switch self {
        case .memoryBeyond:
            (
                "more memory is offered than there is",
                "The peers of this machine together offer more than it has for them. A job that believes it ends with a process killed.",
                "Lower memory_mib (`atoll limits set memory_mib N`, then restart), or run fewer peers."
            )
        case .memoryLittle:
            (
                "little memory is offered", "Less than 64 MiB: hardly any job has a stage so small.",
                "Raise memory_mib, if the machine has it."
            )
        case .memoryGroup:
            (
                "a control group limits memory",
                "A container or a unit allows less memory than the machine has. What is offered follows that limit.",
                "Nothing, if it is meant so. Else raise MemoryMax of the unit, or the container's limit."
            )
        case .instructionSets:
            (
                "the processor computes otherwise than it should",
                "The same sums were done with each instruction set that the processor has, and the bits differ. A peer must have the same bits as all others.",
                "Do not lend this machine. Its processor or memory may be failing, or overclocked: test them."
            )
        case .threadsBeyond:
            (
                "more threads than processors",
                "Threads beyond the processors that this process may use make it slower.", "Lower threads."
            )
        case .heat:
            (
                "the processor is hotter than its owner allows",
                "A sensor says more than temperature_c, so the peer does not work.",
                "Clean the fans, lower cpu_percent or threads, or allow more."
            )
        default:
            (
                "arithmetic cannot run at the lowest priority",
                "The system does not let this process lower its own threads (SCHED_IDLE). It then competes with other programs for the processor.",
                "In a unit or container, allow sched_setscheduler. Else lower cpu_percent."
            )
        }
    }
    private var diskPage: Page {
        switch self {
        case .folderNotWritable:
            (
                "the peer's folder cannot be written",
                "Its key, the log of its job and its part of the model have to be written there.",
                "Check the folder's owner and mode, or choose another with --data."
            )
        case .diskFull:
            (
                "the disk is nearly full",
                "Less is free than a job's text and a stage's states take. Offers are declined, and states are not kept.",
                "Free some space, raise disk_mib if that is the limit, or choose another disk with --data."
            )
        case .diskSlow:
            (
                "the disk is slow",
                "Writing a few bytes for certain took more than a quarter of a second. An elector on such a disk delays its job.",
                "Use another disk for the folder. A disk that was fast and is slow may be failing."
            )
        case .usageDamaged:
            (
                "what was sent this month is not known",
                "The file `usage` and the one before it are damaged. Where there is a monthly limit, it counts as used up until the month ends.",
                "`atoll limits set monthly_gib N` begins to count anew."
            )
        default:
            (
                "a job's log is damaged",
                "A file in the peer's folder is not what was written and signed. What follows the damage is not used.",
                "`atoll verify FILE` names the byte. The log comes again from others when the peer is in that job."
            )
        }
    }
    private var limitPage: Page {
        switch self {
        case .batteryUnseen:
            (
                "whether this machine runs on its battery cannot be seen",
                "on_battery says to pause, and /sys/class/power_supply says nothing usable. The peer does what `unseen` says.",
                "Nothing, if there is no battery: `atoll limits set on_battery work` says so."
            )
        case .biting:
            (
                "a limit keeps the peer from working",
                "One of its owner's limits bites at the moment. The text says which, since when, and until when where that is known.",
                "Nothing, if it is meant so. `atoll limits` shows all, `atoll limits set KEY VALUE` changes one."
            )
        case .peerFile:
            (
                "the owner's file cannot be used",
                "peer.yaml, or limits.yaml beside it, has an unknown key or a value out of range. The peer does not start with a file that it does not understand.",
                "Mend the line that is named. docs/LIMITS.md has every key."
            )
        case .userUnseen:
            (
                "whether somebody uses this machine cannot be seen",
                "user_active says to pause, and logind does not say whether anybody is there: no desktop tells it, or libsystemd is not installed. The peer runs at the lowest priority instead.",
                "Nothing: that is in nobody's way. hours may say when nobody is there."
            )
        case .loadUnseen:
            (
                "the load of other programs cannot be seen",
                "others_load_percent is given, and the kernel has no pressure stall information (/proc/pressure/cpu).",
                "Boot with psi=1, or go without: the peer runs at the lowest priority."
            )
        case .heatUnseen:
            (
                "the temperature cannot be seen",
                "temperature_c is given, and no driver of a processor's sensor is loaded. The peer computes half of the time instead.",
                "Load the driver (`sensors-detect`), or `atoll limits set temperature_c none`."
            )
        case .meteredUnseen:
            (
                "whether the connection is metered cannot be seen",
                "metered says to pause, and NetworkManager is not there or does not know. The peer works as if it were not metered.",
                "Nothing, if the connection is not paid by volume: `metered: work` in peer.yaml says so (of a peer that runs, `atoll limits set metered work`). `nmcli connection modify NAME connection.metered yes` says so. monthly_gib and up_mbps limit it in any case."
            )
        case .neverOpen:
            (
                "its hours leave little",
                "The limit hours allows less than an hour of work a week, so that this peer is hardly ever in a job. Perhaps a day or a time is not what was meant.",
                "`atoll limits` shows hours as it is read; `atoll limits set hours always` lifts it."
            )
        default:
            (
                "this month's bytes are nearly used up",
                "More than nine tenths of monthly_gib. The peer leaves its job when all of it is used, where a round begins.",
                "Raise monthly_gib, or lower up_mbps."
            )
        }
    }
}

/// One thing that was looked at.
public struct Diagnosis: Codable, Hashable, Sendable {
    public enum State: String, Codable, Sendable {
        case ok, warn, fail
        /// It could not be looked at.
        case unknown
    }
    public var code: DiagnosisCode
    public var state: State
    /// What was found, in a clause.
    public var found: String
    /// What to try; nil where nothing is wrong.
    public var remedy: String?
    public init(_ code: DiagnosisCode, _ state: State, _ found: String, try remedy: String? = nil) {
        self.code = code
        self.state = state
        self.found = found
        self.remedy = remedy
    }
}
