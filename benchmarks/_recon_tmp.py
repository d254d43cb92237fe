import sys, json
from benchmarks import _scale
from benchmarks._stage import Stage, privately
from benchmarks._agent import running
from kmesh.lab.interrupts import Interrupts
privately("benchmarks._recon_tmp")
import subprocess, os, time
n=int(sys.argv[1]); perf=len(sys.argv)>2
i=Interrupts()
with i.raised(), Stage(i.held) as stage:
    num={}
    with _scale.world(stage,"x",_scale.large(n,n//20),num) as one:
        print('cold', {k:num['cold'][k] for k in('cpu_s','start_cpu_s','acked_s','rss_mib')})
        time.sleep(3)
        if perf:
            p=subprocess.Popen(['/tmp/wt/venv/bin/py-spy','record','-r','1000','-f','raw','-o','/tmp/bdec/spy.txt','-p',str(one.agent.process.pid)],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL); time.sleep(1.5)
        for _ in range(4 if perf else 3):
            r=_scale.reconnect(one,n,0); print('reconnect',{k:r[k] for k in('cpu_s','system_s','bytes_in','stall_ms')}, 'share',r['cpu_s']/num['cold']['cpu_s'])
        if perf: p.send_signal(2); p.wait()
        st=one.agent.client.state()['xds']; print(st['bytes_out'],st['bytes_in'])
