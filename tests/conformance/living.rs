//! Containers from create to remove, and everything that can be asked of them meanwhile.

use crate::script::same;

#[test]
fn life_of_a_container() {
    same(
        "life_of_a_container",
        r"
        C --name one -l a=b busybox sleep 1000
        C --name one busybox
        start one
        start one
        ps --filter name=^one$ --format '{{.Names}} {{.State}} {{.Command}} {{.Labels}} {{.Image}} {{.Networks}} {{.Mounts}} {{.LocalVolumes}} {{.Ports}}'
        exec one echo in
        exec one missing
        # Debian 12's runc says that it is denied where later ones say that it is a directory.
        ~ exec one /etc
        exec one sh -c 'exit 9'
        exec -w /tmp -e X=1 -u 5 one sh -c 'pwd; echo $X; id -u'
        exec -w /not/there one pwd
        exec -u nobody-at-all one id
        exec -u 1:nogroup-at-all one id
        exec -u 4294967296 one id
        exec -u 1:1 one id
        exec -d one true
        exec -i one cat <<< 'typed\n'
        exec one cat <<< 'lost\n'
        exec -t one sh -c 'echo out; echo err >&2'
        exec -it one true
        # The reference has the capabilities of the machine it runs on.
        ~ exec --privileged one grep CapEff /proc/self/status
        exec one grep CapEff /proc/self/status
        exec --env-file $DIR/nope one true
        exec one
        exec nobody true
        pause one
        pause one
        ps -a --filter name=^/one$ --format '{{.State}}'
        exec one true
        attach one
        stop -t 0 nobody
        unpause one
        unpause one
        rename one two
        rename two two
        rename two 'bad name'
        rename nobody x
        rm two
        kill -s NOSUCH two
        kill -s 0 two
        kill -s 99 two
        kill -s '' two
        kill -s WINCH two
        kill -s sigwinch two
        kill -s 28 two
        kill two
        wait two
        kill two
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}} {{.RestartCount}} {{.Name}}' two
        exec two true
        attach two
        pause two
        unpause two
        stop two
        stop -s BOGUS two
        logs two
        top two
        port two
        start two
        restart -t 0 two
        stop -t 0 two
        stop -t -1 two
        restart -t 0 two
        update --restart on-failure:4 two
        update --memory 1m two
        update --restart bogus two
        update nobody
        inspect -f '{{.HostConfig.RestartPolicy}} {{.HostConfig.Memory}}' two
        rm -f two
        rm -f two
        rm two
        inspect two
        inspect --type container two
        logs two
        start two
        stop two
        kill two
        wait two
        rename two three
        attach two
        exec two true
        port two
        rm -v nobody
        start nobody1 nobody2
        ",
    );
}

#[test]
fn failed_starts_and_what_is_left_of_them() {
    same(
        "failed_starts_and_what_is_left_of_them",
        r"
        C --name fails busybox missing
        start fails
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.State.Running}} {{.State.Pid}}' fails
        start -a fails
        ps -a --filter name=fails --format '{{.State}} {{.Command}}'
        rm fails
        C --name fails --user nobody-at-all busybox true
        start fails
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' fails
        rm fails
        C --name code busybox sh -c 'exit 5'
        start -a code
        start -a code
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' code
        wait code
        start -a -i code
        rm code
        D --name restarts --restart on-failure:2 busybox false
        wait restarts
        rm -f restarts
        D --name keeps --restart unless-stopped busybox sleep 1000
        inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}' keeps
        stop -t 0 keeps
        inspect -f '{{.State.Status}} {{.State.ExitCode}}' keeps
        rm keeps
        D --name term busybox sh -c 'trap '\''echo got; exit 3'\'' TERM; while :; do sleep 0.1; done'
        rm -f term
        D --name quit --stop-signal QUIT --stop-timeout 1 busybox sh -c 'trap \'exit 7\' QUIT; while :; do sleep 0.1; done'
        stop -t 5 quit
        inspect -f '{{.State.ExitCode}} {{.Config.StopSignal}} {{.Config.StopTimeout}}' quit
        rm quit
        D --name slow --stop-timeout 0 busybox sleep 1000
        stop slow
        inspect -f '{{.State.ExitCode}}' slow
        rm slow
        ",
    );
}

#[test]
fn processes_of_a_container_and_what_they_use() {
    same(
        "processes_of_a_container_and_what_they_use",
        r"
        D --name busy busybox sh -c 'sleep 1001 & exec sleep 1002'
        # The ids of processes are those of the machine, and the reference may be run with patience.
        ~ top busy -o pid=PID,user -o comm
        ~ top busy -eo user,group,tty,stat,ni,pri,cls,nlwp,pid
        top busy -o user
        top busy -o pid= -o comm=
        top busy --no-headers -ef
        top busy -eo pid,bogus
        top busy -eo pid,comm=PIDS
        top busy bogus
        top nobody
        top
        ~ top busy
        ~ top busy aux
        ~ top busy axo pid,ppid,user,args
        C --name idle busybox true
        top idle
        stats --no-stream idle
        stats --no-stream --format '{{json .Name}} {{.MemUsage}} {{.MemPerc}} {{.CPUPerc}} {{.PIDs}}' idle
        stats --no-stream --format '{{.Name}} {{.PIDs}} {{.Container}} {{.NetIO}}' busy idle
        stats --no-stream nobody
        stats --no-stream idle nobody
        stats nobody
        rm -f busy idle
        ",
    );
}

#[test]
fn health_checks() {
    same(
        "health_checks",
        r"
        C --name bad --health-interval 1us --health-cmd true busybox true
        C --name bad --health-retries -1 busybox true
        C --name none --health-cmd 'true' busybox true
        inspect -f '{{.State.Health}} {{json .Config.Healthcheck}}' none
        start -a none
        inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{len .State.Health.Log}}' none
        ps -a --filter name=^none$ --filter health=unhealthy --format '{{.Names}}'
        rm none
        D --name off --no-healthcheck busybox sleep 1000
        inspect -f '{{.State.Health}} {{json .Config.Healthcheck}}' off
        ps --filter name=^off$ --filter health=none --format '{{.Names}}'
        rm -f off
        # The seventh probe runs when six have been counted.
        D --name slow --health-cmd 'echo >> /n; echo out; exit 3' --health-start-period 1h --health-start-interval 100ms busybox sleep 1000
        exec slow sh -c 'until [ $(cat /n 2>/dev/null | wc -l) -ge 7 ]; do usleep 50000; done'
        inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{len .State.Health.Log}} {{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}' slow
        ps --filter name=^slow$ --filter health=starting --format '{{.Names}}'
        rm -f slow
        D --name sick --health-cmd 'echo >> /n; exit 7' --health-interval 100ms --health-retries 2 busybox sleep 1000
        exec sick sh -c 'until [ $(cat /n 2>/dev/null | wc -l) -ge 7 ]; do usleep 50000; done'
        inspect -f '{{.State.Health.Status}} {{len .State.Health.Log}} {{(index .State.Health.Log 0).ExitCode}}' sick
        ps --filter name=^sick$ --filter health=unhealthy --format '{{.Names}} {{.State}}'
        stop -t 0 sick
        inspect -f '{{.State.Health.Status}} {{len .State.Health.Log}}' sick
        rm sick
        D --name late --health-cmd 'echo >> /n; echo said; sleep 100' --health-interval 100ms --health-timeout 500ms --health-retries 1 busybox sleep 1000
        exec late sh -c 'until [ $(cat /n 2>/dev/null | wc -l) -ge 7 ]; do usleep 50000; done'
        inspect -f '{{.State.Health.Status}} {{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}' late
        rm -f late
        D --name well --health-cmd 'echo >> /n; head -c 5000 /dev/zero | tr \0 x' --health-interval 100ms busybox sleep 1000
        exec well sh -c 'until [ $(cat /n 2>/dev/null | wc -l) -ge 7 ]; do usleep 50000; done'
        inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{len (index .State.Health.Log 0).Output}}' well
        ps --filter name=^well$ --filter health=healthy --format '{{.Names}}'
        rm -f well
        ",
    );
}

#[test]
fn logs_and_their_options() {
    same(
        "logs_and_their_options",
        r"
        D --name talks -l k=v -e E=f --log-opt labels=k --log-opt env=E busybox sh -c 'echo one; echo two >&2; echo three; printf four'
        wait talks
        logs talks
        logs -f talks
        logs --tail 0 talks
        logs --tail -1 talks
        logs --tail bogus talks
        logs --details talks
        logs -t talks
        logs --since 1h talks
        logs --until 1h talks
        logs --since 2020-01-01 talks
        logs --since 2020-01-01T00:00:00Z --until 2020-01-02T00:00:00.5Z talks
        logs --since bogus talks
        logs --until bogus talks
        logs --since 1s --until 1h talks
        logs nobody
        rm talks
        # One stream: the order of two is whoever reads them first.
        D --name tails busybox sh -c 'echo one; echo two; echo three; printf four'
        wait tails
        logs --tail 2 tails
        logs --tail 1 -t tails
        rm tails
        D --name mute --log-driver none busybox echo nothing
        wait mute
        logs mute
        rm mute
        D -t --name tty busybox sh -c 'echo one; echo two >&2'
        wait tty
        logs tty
        logs --tail 1 tty
        rm tty
        D --name local --log-driver local busybox sh -c 'echo kept'
        wait local
        logs local
        rm local
        C --name never busybox true
        logs never
        logs -f never
        rm never
        D --name long busybox sh -c 'head -c 40000 /dev/zero | tr \\0 x; echo; echo end'
        wait long
        logs long
        logs --tail 1 long
        logs --tail 2 long
        rm long
        ",
    );
}

#[test]
fn lists_and_filters() {
    same(
        "lists_and_filters",
        r"
        C --name f1 -l app=web -l tier=1 busybox true
        C --name f2 -l app=web --expose 80 busybox true
        C --name f3 -l app=db -v filtered:/data busybox sh -c 'exit 4'
        start -a f3
        D --name f4 busybox sleep 1000
        ps -a --format '{{.Names}}' --filter label=app
        ps -a --format '{{.Names}}' --filter label=app=web
        ps -a --format '{{.Names}}' --filter label=app=web --filter label=tier=1
        ps -a --format '{{.Names}}' --filter name=f1
        ps -a --format '{{.Names}}' --filter name='^/f1$'
        ps -a --format '{{.Names}}' --filter name='^f[12]$'
        ps -a --format '{{.Names}}' --filter name=f1 --filter name=f2
        ps -a --format '{{.Names}}' --filter name='f1|f2'
        ps -a --format '{{.Names}}' --filter 'name=(['
        ps -a --format '{{.Names}}' --filter status=exited --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter status=created --filter name='^f[0-9]$'
        ps --format '{{.Names}}' --filter status=created --filter name='^f[0-9]$'
        ps --format '{{.Names}}' --filter name='^f[0-9]$'
        ps -a --filter status=bogus
        ps -a --format '{{.Names}}' --filter exited=4 --filter name='^f[0-9]$'
        ps -a --filter exited=bogus
        ps -a --filter health=bogus
        ps -a --format '{{.Names}}' --filter health=none --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter volume=filtered
        ps -a --format '{{.Names}}' --filter volume=/data --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter network=none --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter network=bogus
        ps -a --format '{{.Names}}' --filter expose=80 --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter expose=70-90/tcp --filter name='^f[0-9]$'
        ps -a --filter expose=bogus
        ps -a --format '{{.Names}}' --filter publish=80
        ps -a --format '{{.Names}}' --filter ancestor=busybox --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter ancestor=bogus
        # Images that were made on others, each by a commit of a container of the one before.
        ~ commit f1 line:1
        C --name f5 line:1 true
        ~ commit f5 line:2
        C --name f6 line:2 true
        ~ commit f6 line:3
        ps -a --format '{{.Names}}' --filter ancestor=busybox --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter ancestor=line:1
        ps -a --format '{{.Names}}' --filter ancestor=line:2
        ps -a --format '{{.Names}}' --filter ancestor=line:3
        ps -a --format '{{.Names}}' --filter ancestor=line:3 --filter ancestor=line:2
        ps -a --format '{{.Names}}' --filter ancestor=line
        rmi line:1
        ps -a --format '{{.Names}}' --filter ancestor=line:2
        ps -a --format '{{.Names}}' --filter ancestor=busybox --filter name='^f[0-9]$'
        rm f5 f6
        ~ rmi line:2 line:3
        ps -a --format '{{.Names}}' --filter before=f3 --filter name='^f[0-9]$'
        ps -a --format '{{.Names}}' --filter since=f2 --filter name='^f[0-9]$'
        ps -a --filter before=bogus
        ps -a --filter since=bogus
        ps -a --filter is-task=true
        ps -a --filter is-task=maybe
        ps -a --filter isolation=bogus --filter name='^f[0-9]$' --format '{{.Names}}'
        ps -a --filter bogus=1
        ps -a --filter bogus
        # Others make containers on the same engine.
        ps -n 2 --format '{{.Names}}' --filter name='^f[0-9]$'
        ps -l --format '{{.Names}}' --filter name='^f[0-9]$'
        ps -a --format json --filter name=nothing
        # Older clients join them in the order of a Go map.
        ~ ps -a --format '{{json .Labels}}' --filter name=f2
        ps -a --format 'table {{.Names}}\t{{.State}}' --filter name=f2
        ps -a --format '{{.Bogus}}' --filter name=f2
        ps -a --no-trunc --format '{{.Command}}' --filter name=f3
        ps -a --format '{{.Command}}' --filter name=f3
        ps -q --filter name=f4
        # A layer here is its tar.
        ~ ps -a --size --format '{{.Names}} {{.Size}}' --filter name=f1
        inspect f1 f2 -f '{{.Name}}'
        inspect f1 bogus -f '{{.Name}}'
        inspect -f '{{.Bogus}}' f1
        inspect --size -f '{{.SizeRw}}' f1
        container ls -a --filter label=app=db --format '{{.Mounts}}'
        rm -f f1 f2 f3 f4
        volume rm filtered
        ~ events --filter bogus=1 --since 1s --until 0s
        events --since bogus
        ~ events --since 1h --until 2h
        images --filter bogus=1
        images --filter dangling=maybe
        images --filter before=bogus
        images --filter since=bogus
        images --filter until=bogus
        images -q --filter label=bogus
        volume ls --filter bogus=1
        volume ls --filter dangling=maybe
        volume ls -q --filter driver=bogus
        network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.IPv6}} {{.Labels}}'
        network ls --filter bogus=1
        network ls --filter driver=host --format '{{.Name}}'
        network ls --filter type=builtin --format '{{.Name}}'
        network ls --filter type=custom --format '{{.Name}}'
        network ls --filter type=bogus
        network ls --filter dangling=maybe
        network ls --filter scope=swarm --format '{{.Name}}'
        network ls --filter name=o --format '{{.Name}}'
        network inspect nobody
        network inspect host none -f '{{.Name}} {{.Driver}} {{.Internal}} {{.Options}} {{.IPAM.Config}} {{.Labels}} {{.Attachable}}'
        network rm bridge
        network rm nobody
        network create bridge
        network create host
        ",
    );
}
