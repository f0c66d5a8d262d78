"""How the report looks and the little it does: one style sheet, one script, both inside the page.

Colours are Okabe and Ito's, told apart by every common kind of colour vision; dash and marker shape say the same in
grey. The script jumps, copies, unfolds, and hides a clip's controls until it is pointed at; the page is whole without.
"""

CSS = """
:root{color-scheme:light dark;--paper:#fcfcfa;--raised:#fff;--ink:#1d1f21;--ink2:#4d5156;--ink3:#6a6f75;--line:#d9dbdb;
--grid:#e9eaea;--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b0598a;--s4:#b87a00;--s5:#3a9bd1;--s6:#6a6f75;--pale:#cfe0ec;
--good:#00795a;--stay:#4d5156;--open:#9a6400;--bad:#b34700;
--serif:Charter,"Bitstream Charter","Iowan Old Style","Palatino Linotype","Source Serif 4",Cambria,Georgia,serif;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
@media (prefers-color-scheme:dark){:root{--paper:#16181a;--raised:#1d2022;--ink:#e9eaea;--ink2:#bcc0c4;--ink3:#969ba1;
--line:#383c40;--grid:#2a2d30;--s0:#5ab0e6;--s1:#f0853a;--s2:#3cc29b;--s3:#d893b9;--s4:#e6a632;--s5:#8fd0f5;--s6:#969ba1;
--pale:#2a3d4a;--good:#3cc29b;--stay:#bcc0c4;--open:#e6a632;--bad:#f0853a}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 var(--serif);overflow-wrap:break-word}
main,header,footer{max-width:1080px;margin:0 auto;padding:0 16px}
h1,h2,h3,p,ol,ul,figure,pre,table,dl,dd{margin:0;padding:0}
h1{font-size:1rem;font-weight:400;color:var(--ink2)}
h2{font-size:1.3rem;font-weight:600;line-height:1.25;margin-bottom:4px}
h3{font:600 1.14rem/1.3 var(--serif);font-weight:600;line-height:1.3}
section{padding:36px 0 0}
header{padding-top:22px;display:flex;flex-wrap:wrap;gap:2px 18px;justify-content:space-between;align-items:baseline}
header p,.small,figcaption,.source,th,td,.tag,summary,button,.notes,footer{font-family:var(--sans)}
header p,.small,footer{font-size:.82rem;color:var(--ink3)}
.lede{color:var(--ink2);max-width:44em}
.tag{font-size:.82rem;font-weight:600;letter-spacing:.02em;color:var(--tone)}
.promote,.first{--tone:var(--good)}.keep{--tone:var(--stay)}.cannot_tell{--tone:var(--open)}.none{--tone:var(--bad)}
.verdict{margin-top:14px;background:var(--raised);border:1px solid var(--line);border-top:4px solid var(--tone);
border-radius:3px;padding:18px 18px 20px}
.verdict .say{font-size:clamp(1.36rem,1.05rem + 1.5vw,2rem);line-height:1.26;font-weight:500;margin:4px 0 0;
max-width:27em;text-wrap:pretty}
.verdict .rule{margin-top:8px;color:var(--ink2);font-size:.95rem;max-width:46em}
.rates{display:grid;gap:14px 40px;margin-top:18px;padding-top:16px;border-top:1px solid var(--line)}
.rate{display:grid;grid-template-columns:auto 1fr;gap:0 16px;align-items:end;align-content:start}
.rate .who{grid-column:1/-1;font:600 .84rem/1.4 var(--sans);color:var(--ink2)}
.rate .big{font:500 2.6rem/1 var(--serif);font-variant-numeric:lining-nums tabular-nums;letter-spacing:-.01em}
.rate svg{width:100%;max-width:260px;height:26px;display:block;overflow:visible}
.rate .rest{grid-column:1/-1;font:.82rem/1.45 var(--sans);color:var(--ink2);margin-top:6px;
font-variant-numeric:tabular-nums}
.trace{margin-top:16px;padding-top:12px;border-top:1px solid var(--line);display:flex;flex-wrap:wrap;gap:2px 18px;
font:.78rem/1.5 var(--sans);color:var(--ink3)}
.trace b{font-weight:600;color:var(--ink2)}.trace span{min-width:0;overflow-wrap:anywhere}
button{font:inherit;color:var(--s0);background:none;border:0;padding:0;cursor:pointer;text-decoration:underline;
text-underline-offset:2px;text-decoration-thickness:1px}
button:hover{text-decoration-thickness:2px}
a{color:var(--s0);text-underline-offset:2px}
:focus-visible{outline:2px solid var(--s0);outline-offset:2px;border-radius:2px}
.clips{display:grid;gap:18px 14px;margin-top:14px}
.clips .kind>h3{font:600 .84rem/1.4 var(--sans);color:var(--ink2);margin-bottom:6px}
.clips .row{display:grid;gap:12px}
.clips.two{grid-template-columns:1fr 1fr}.clips:not(.two) .row{grid-template-columns:repeat(3,1fr)}
.clips video{cursor:pointer;display:block;width:100%;background:var(--grid);border-radius:3px}
.clips figcaption{font-size:.78rem;color:var(--ink3);margin-top:3px;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;margin-top:12px;font-family:var(--sans);font-variant-numeric:tabular-nums}
th{font-size:.78rem;font-weight:600;color:var(--ink3);text-align:left;padding:4px 10px 6px 0;
border-bottom:1px solid var(--ink3)}
td{font-size:.9rem;padding:8px 10px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}
.num{text-align:right}td .dim{color:var(--ink3);white-space:nowrap}
tr.won td{font-weight:600}tr.won .dim{font-weight:400}
td.rated{white-space:nowrap}
td svg{width:130px;height:14px;display:inline-block;vertical-align:-2px;overflow:visible}
pre,code{font-family:var(--mono);font-size:.78rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;color:var(--ink2);line-height:1.5}
.error{margin-top:6px;padding-left:10px;border-left:2px solid var(--bad);font-weight:400}
.figures{margin-top:16px;column-gap:48px}
.figures>figure{border-top:1px solid var(--line);padding:12px 0 36px;break-inside:avoid}
.figures>figure>p{font-size:.95rem;color:var(--ink2);margin:2px 0 10px}
.nb{white-space:nowrap}.figures>figure:has(>p.no){padding-bottom:20px}
.figures>figure>p.no{color:var(--ink3);font-style:italic}
.plot svg{display:block;width:100%;height:auto;overflow:visible;font-family:var(--sans);
font-variant-numeric:tabular-nums}
.plot .desk{display:none}.plot .phone svg{max-width:480px}
.notes{font-size:.8rem;color:var(--ink3);list-style:none;margin-top:8px}
.findings{font-size:.86rem;color:var(--ink2);padding-left:1.1em;list-style:square}
.figures>figure>.source,.source{font-size:.76rem;color:var(--ink3);margin-top:8px;overflow-wrap:anywhere}
details{margin-top:4px;font-size:.8rem}summary{cursor:pointer;color:var(--ink3);font-size:.78rem}
summary:hover{color:var(--ink)}
details pre{max-height:300px;overflow:auto;margin-top:6px;padding:10px;background:var(--raised);
border:1px solid var(--line)}
.made{margin-top:12px;border-top:1px solid var(--ink3)}
.made>div{padding:12px 0;border-bottom:1px solid var(--line);display:grid;gap:4px 24px}
.made dt{font:600 .9rem/1.5 var(--sans)}.made dd{min-width:0;overflow-wrap:anywhere}
.made .digest{white-space:pre-line;font:.78rem/1.55 var(--mono);color:var(--ink2)}
.cmd{display:flex;gap:10px;align-items:flex-start;justify-content:space-between;background:var(--raised);
border:1px solid var(--line);border-radius:3px;padding:7px 10px}
.cmd code{min-width:0;overflow-wrap:anywhere;user-select:all;line-height:1.5}
.cmd button{flex:none;font:.78rem/1.5 var(--sans)}
.factgroups{display:grid;gap:18px 40px;margin-top:14px}
.factgroups h3{font:600 .84rem/1.4 var(--sans);color:var(--ink2)}
.factgroups table{margin-top:4px}
.factgroups th{font-weight:400;color:var(--ink3);border-bottom:1px solid var(--line);vertical-align:top;width:42%;padding:5px 10px 5px 0}
.factgroups td{font-size:.84rem;padding:5px 0;overflow-wrap:anywhere}
.factgroups details table{margin-top:6px}.factgroups details td,.factgroups details th{font-size:.76rem;padding:3px 10px 3px 0}
footer{margin-top:44px;padding-top:14px;padding-bottom:36px}
.t{fill:var(--ink3);font-size:12px}.t.s{fill:var(--ink);font-weight:600}.t.u{fill:var(--ink3)}
.g{stroke:var(--grid);stroke-width:1}.a{stroke:var(--ink3);stroke-width:1}.zero{stroke:var(--ink2);stroke-width:1}
.l{stroke-width:1.8;stroke-linejoin:round}.l.thin{stroke-width:1;opacity:.5}.l.faint{opacity:.38;stroke-width:1.3}
.w{stroke-width:1.8}.w.thick{stroke-width:4;stroke-linecap:round;opacity:.55}.m{stroke:var(--raised);stroke-width:.8}.m.hollow{fill:none;stroke-width:1.7}.bar{stroke:none}
line.s0,path.l.s0,.hollow.s0{stroke:var(--s0)}line.s1,path.l.s1,.hollow.s1{stroke:var(--s1)}
line.s2,path.l.s2,.hollow.s2{stroke:var(--s2)}line.s3,path.l.s3,.hollow.s3{stroke:var(--s3)}
line.s4,path.l.s4,.hollow.s4{stroke:var(--s4)}line.s5,path.l.s5,.hollow.s5{stroke:var(--s5)}
line.s6,path.l.s6,.hollow.s6{stroke:var(--s6)}
.m.s0,.bar.s0{fill:var(--s0)}.m.s1,.bar.s1{fill:var(--s1)}.m.s2{fill:var(--s2)}.m.s3{fill:var(--s3)}.m.s4{fill:var(--s4)}
.m.s5{fill:var(--s5)}.m.s6,.bar.s6{fill:var(--s6)}.bar.pale{fill:var(--pale)}.m.hollow{fill:none}
@media (max-width:819px){
.board thead{display:none}.board,.board tbody{display:block}
.board tr{display:flex;flex-wrap:wrap;gap:2px 10px;padding:10px 0 10px 1.8em;border-bottom:1px solid var(--line);
position:relative}
.board td{border:0;padding:0}.board td:first-child{position:absolute;left:0}
.board td:nth-child(2){flex:1 1 0;min-width:0}
.board td.wide{flex:0 0 100%}.board td svg{width:100%;height:16px}
.board td.more{font-size:.8rem;font-weight:400;color:var(--ink3)}.board td.more:empty{display:none}
.board td.more::after{content:attr(data-unit)}
}
@media (min-width:640px){
main,header,footer{padding-left:32px;padding-right:32px}
.verdict{padding:24px 30px 24px}
.rates.two{grid-template-columns:1fr 1fr}
.clips.two{grid-template-columns:1fr}.clips .row{grid-template-columns:repeat(3,1fr)}.clips:not(.two){max-width:600px}
.plot .phone{display:none}.plot .desk{display:block}.plot .desk svg{max-width:500px}
.made>div{grid-template-columns:minmax(9em,1fr) 3.4fr}
}
@media (min-width:760px){.factgroups{display:block;columns:2;column-gap:40px}.factgroups>div{break-inside:avoid;padding-bottom:18px}}
@media (min-width:960px){.figures{columns:2}.clips.two{grid-template-columns:1fr 1fr;gap:24px}section{padding-top:46px}}
@media print{body{background:#fff}.verdict,.cmd{background:none}button,details,.clips{display:none}
.figures>figure,.made>div{break-inside:avoid}}
"""

SCRIPT = """
document.addEventListener('click',function(event){
 var b=event.target.closest('button');if(!b)return;
 if(b.dataset.to){var goal=document.getElementById(b.dataset.to);if(goal){goal.scrollIntoView({block:'start'});}}
 if(b.hasAttribute('data-copy')){
  var code=b.parentNode.querySelector('code'),range=document.createRange(),pick=window.getSelection();
  range.selectNodeContents(code);pick.removeAllRanges();pick.addRange(range);
  var done=false;try{done=document.execCommand('copy');}catch(e){}
  b.textContent=done?'copied':'selected';setTimeout(function(){b.textContent='copy';},1600);
 }
 if(b.hasAttribute('data-play')){
  var all=document.querySelectorAll('video'),go=b.textContent==='play all';
  all.forEach(function(v){if(go){v.play();}else{v.pause();}});b.textContent=go?'pause all':'play all';
 }
});
document.querySelectorAll('video').forEach(function(v){
 function bare(){v.controls=false;}
 bare();v.tabIndex=0;
 v.addEventListener('pointerenter',function(event){if(event.pointerType==='mouse'){v.controls=true;}});
 v.addEventListener('pointerleave',bare);v.addEventListener('blur',bare);
 v.addEventListener('focus',function(){if(v.matches(':focus-visible')){v.controls=true;}});
 v.addEventListener('click',function(){if(!v.controls){if(v.paused){v.play();}else{v.pause();}}});
});
document.addEventListener('toggle',function(event){
 var pre=event.target.querySelector('pre[data-csv]'),link=event.target.querySelector('a');
 if(pre&&link&&!pre.textContent){pre.textContent=decodeURIComponent(link.href.split(',').slice(1).join(','));}
},true);
"""
